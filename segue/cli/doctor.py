"""The verb `doctor`: is the data fit, is the machine up to it, have the models learnt? Exit code 1 where one is bad."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from segue.cli.options import DeviceOption, RecipeOption, SetOption, ThreadsOption, choose_device, use_threads
from segue.terminal import bars, say, stage_bars

if TYPE_CHECKING:
    from segue.doctor.effort import Told
    from segue.doctor.findings import Finding

COLOURS = {"ok": "green", "warn": "yellow", "bad": "bold red"}
MOST_FIGURES = 6
"""Figures of a finding that the table shows; --json has all."""


def doctor(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="BUNDLE|RUN|FOLDER", help="A bundle, a run, a token store or sound; the machine if none."
        ),
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="Held-out sound, or a token store, to ask models about.")
    ] = None,
    recipe: RecipeOption = "tiny",
    set_: SetOption = None,
    seconds: Annotated[float, typer.Option(help="For each of the longer checks, at most.")] = 60.0,
    quick: Annotated[bool, typer.Option("--quick", help="A few seconds a check, and nothing is trained.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn where not all is looked at.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on standard output.")] = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Check data, machine and models, and say what to do. Exit code 1 if something is bad."""
    from segue.config import override
    from segue.doctor.effort import QUICK_SECONDS, Effort
    from segue.doctor.examine import examine
    from segue.doctor.findings import worst
    from segue.recipes import recipe as named

    use_threads(threads)
    chosen = override(named(recipe), set_ or [])
    with _shown(quiet=as_json) as told:
        effort = Effort(min(seconds, QUICK_SECONDS) if quick else seconds, quick, seed, told)
        findings = list(examine(target, chosen, data or (), choose_device(device), effort))
    if as_json:
        say(json.dumps(_plain(target, findings)))
    else:
        _show(findings, Console(highlight=False, markup=False))
    if worst(findings) == "bad":
        raise typer.Exit(1)


@contextmanager
def _shown(quiet: bool) -> Iterator[Told]:
    with bars(quiet=quiet) as progress:
        yield stage_bars(progress)


def _plain(target: str | None, findings: Sequence[Finding]) -> dict[str, object]:
    from segue.doctor.findings import conclusions, worst

    parts = {part: {"verdict": verdict, "meaning": line} for part, (verdict, line) in conclusions(findings).items()}
    return {
        "target": target,
        "verdict": worst(findings),
        "conclusions": parts,
        "findings": [finding.plain() for finding in findings],
    }


def _show(findings: Sequence[Finding], out: Console) -> None:
    """A table of all findings, what to do about those that are not well, and a line for each part."""
    from segue.doctor.findings import conclusions

    table = Table(title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("meaning", ratio=3)
    table.add_column("figures", ratio=2)
    for finding in findings:
        figures = list(finding.plain()["figures"].items())
        more = " ..." if len(figures) > MOST_FIGURES else ""
        words = ", ".join(f"{name} {_number(value)}" for name, value in figures[:MOST_FIGURES]) + more
        mark = Text(finding.verdict, style=COLOURS[finding.verdict])
        table.add_row(mark, Text(finding.subject), Text(finding.meaning), Text(words, style="dim"))
    out.print(table)
    for finding in findings:
        if finding.verdict == "ok":
            continue
        lines = [f"{finding.subject}: {finding.meaning}"]
        lines += [f"      do: {finding.remedy}"] if finding.remedy else []
        lines += [f"      - {item}" for item in finding.items]
        verdict_word = (finding.verdict, COLOURS[finding.verdict])
        out.print(Text.assemble(verdict_word, "  ", "\n".join(lines)), soft_wrap=True)
    out.print()
    for part, (verdict, line) in conclusions(findings).items():
        out.print(
            Text.assemble((f"{part}: ", "bold"), (line, COLOURS[verdict] if verdict != "ok" else "")), soft_wrap=True
        )


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
