"""Verbs that measure: `evaluate tokens`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from segue.artifact import check_writable
from segue.cli.options import BundleOption, ThreadsOption, use_threads
from segue.errors import SegueError
from segue.terminal import bars, count_bar, err

EvaluateDataOption = Annotated[
    list[Path], typer.Option("--data", help="Held-out folder, tar shard or manifest; give it again for more.")
]


def evaluate_tokens(
    data: EvaluateDataOption,
    out: Annotated[Path, typer.Option("--out", help="JSON file of the figures.")],
    bundle: BundleOption = "speech",
    semantic: Annotated[
        str | None, typer.Option(help="Semantic tokenizer instead of the bundle's: folder of an artifact or a run.")
    ] = None,
    labels: Annotated[
        str, typer.Option(help="Told apart: phones; pitch or chord, from a MIDI file beside.")
    ] = "phones",
    limit: Annotated[int, typer.Option(min=2, help="Recordings.")] = 60,
    seconds: Annotated[float, typer.Option(min=1, help="Of each, at most.")] = 20.0,
    resynthesised: Annotated[int, typer.Option(min=0, help="Recordings made again and scored.")] = 6,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    png: Annotated[Path | None, typer.Option("--png", help="Picture of roles and layers.")] = None,
    threads: ThreadsOption = None,
) -> None:
    """What semantic tokens and codec codes tell of content, voice and sound: the table of roles."""
    from segue.bundle import load
    from segue.evaluate import plots, report, tokens
    from segue.tokenizers import load_semantic

    kind = next((name for name in get_args(tokens.Labels) if name == labels), None)
    if kind is None:
        raise SegueError(f"--labels {labels}: one of {', '.join(get_args(tokens.Labels))}")
    for path in (out, png):
        if path is not None:
            check_writable(path)
    use_threads(threads)
    loaded = load(bundle)
    tokenizer = load_semantic(semantic) if semantic else loaded.semantic
    options = tokens.Options(kind, limit, seconds, resynthesised, seed=seed)
    with bars() as progress:
        result = tokens.run(loaded, tokenizer, data, options, count_bar(progress, "evaluate tokens", "steps"))
    report.save(result, out)
    table = Table(box=box.MARKDOWN)
    for column in report.ROLE_COLUMNS:
        table.add_column(column)
    for row in report.role_rows(result):
        table.add_row(*row)
    shown = Console(width=200) if not err.is_terminal else Console()
    shown.print(table)
    for line in report.notes(result):
        shown.print(line, markup=False, soft_wrap=True)
    if png is not None:
        plots.token_report(result, png)
    err.print(f"{out}: done")
