"""Verbs that measure: `evaluate SUITE`, `evaluate all`, and beside them `evaluate compare`.

Exit code 0 if every suite was measured (columns may still be "not measured"), 1 if some suite could not be, 2 if none
could, or for bad input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from segue.cli.compare import compare
from segue.cli.groups import spelt_out
from segue.cli.options import BundleOption, ThreadsOption, one_of, use_threads
from segue.errors import SegueError
from segue.evaluate.suites import SUITES
from segue.terminal import bars, err, stage_bars

PairsOption = Annotated[
    list[Path] | None,
    typer.Option("--pairs", help="Folder of pairs, or of ZeroSpeech's; again for more. By default made of the data."),
]
SuiteNames = Annotated[list[str] | None, typer.Option(help="Suite; give it again for more.")]

HELP = {
    "codec": "Quality of the codec by bitrate.",
    "tokens": "What semantic tokens and codes tell of content, voice and sound: the table of roles.",
    "lm": "Likelihood of each stage, and accuracy on pairs of which one is right.",
    "acoustic": "Sound made again from its own semantic tokens: the words stay, the voice is free.",
    "continuation": "Continuations: identity of the prompt, quality, coherence, diversity, distance to real sound.",
    "baselines": "The full system beside acoustic-only and semantic-only.",
    "detector": "Real sound against generated, both through the codec: how well are they told apart?",
}


@dataclass(frozen=True)
class Evaluation:
    """What every suite is asked."""

    data: Annotated[
        list[Path], typer.Option("--data", help="Held-out folder, tar shard or manifest; give it again for more.")
    ]
    out: Annotated[Path, typer.Option("--out", help="Folder of the report; the same one goes on with it.")]
    bundle: BundleOption = "speech"
    limit: Annotated[int, typer.Option(min=1, help="Recordings, at most; of as many speakers as can be.")] = 40
    seed: Annotated[int, typer.Option(min=0, help="Of every draw.")] = 0
    kind: Annotated[
        str | None, typer.Option(help="speech or piano; by default what the bundle tells, else speech.")
    ] = None
    prompt_seconds: Annotated[float, typer.Option(min=0.5, help="Of each recording, gone on with.")] = 3.0
    seconds: Annotated[float, typer.Option(min=0.1, help="Made after a prompt.")] = 7.0
    threads: ThreadsOption = None


def mount(app: typer.Typer) -> None:
    """Give `segue evaluate` its verbs."""
    own: dict[str, Callable[..., None]] = {"codec": evaluate_codec, "tokens": evaluate_tokens, "lm": evaluate_lm}
    for name in SUITES:
        app.command(name, help=HELP[name])(own.get(name) or _verb(name))
    app.command("all")(evaluate_all)
    app.command("compare")(compare)


def _verb(name: str) -> Callable[..., None]:
    def evaluate_suite(asked: Evaluation) -> None:
        _evaluate([name], asked)

    return spelt_out(evaluate_suite)


@spelt_out
def evaluate_codec(
    asked: Evaluation,
    codebooks: Annotated[
        list[int] | None, typer.Option(min=1, help="Codebooks to use; give it again for more. 1, 3, 6 and 12.")
    ] = None,
) -> None:
    """Quality of the codec by bitrate."""
    _evaluate(["codec"], asked, {"codec": {"codebooks": sorted(set(codebooks))}} if codebooks else {})


@spelt_out
def evaluate_lm(asked: Evaluation, pairs: PairsOption = None) -> None:
    """Likelihood of each stage, and accuracy on pairs of which one is right."""
    _evaluate(["lm"], asked, pairs=pairs)


@spelt_out
def evaluate_tokens(
    asked: Evaluation,
    semantic: Annotated[
        str | None,
        typer.Option(
            help="Semantic tokenizer instead of the bundle's: phonetic, or the folder of an artifact or a run."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Told apart: phones (of speech); pitch or chord, from a MIDI file beside."),
    ] = None,
    max_seconds: Annotated[float, typer.Option(min=1, help="Of each recording.")] = 20.0,
    resynthesised: Annotated[int, typer.Option(min=0, help="Recordings made again and scored.")] = 6,
) -> None:
    """What semantic tokens and codes tell of content, voice and sound: the table of roles."""
    from segue.evaluate.tokens import Labels, Options
    from segue.tokenizers import load_semantic

    own: dict[str, Any] = {}  # what differs from the defaults, so that `all` and this verb know each other's figures
    for name, value, default in (
        ("max_seconds", max_seconds, Options.seconds),
        ("resynthesised", resynthesised, Options.resynthesised),
    ):
        own |= {name: value} if value != default else {}
    if labels is not None:
        own["labels"] = one_of("--labels", labels, get_args(Labels))
    if semantic is not None:
        own |= {"semantic": semantic, "semantic_fingerprint": load_semantic(semantic).fingerprint}
    _evaluate(["tokens"], asked, {"tokens": own})


@spelt_out
def evaluate_all(
    asked: Evaluation, only: SuiteNames = None, skip: SuiteNames = None, pairs: PairsOption = None
) -> None:
    """Every suite on the same recordings, and one report of all."""
    for option, named in (("--only", only), ("--skip", skip)):
        for name in named or ():
            one_of(option, name, SUITES)
    names = [name for name in only or SUITES if name not in (skip or ())]
    if not names:
        raise SegueError("--skip: no suite is left to run")
    _evaluate(names, asked, pairs=pairs)


def _evaluate(
    names: Sequence[str],
    asked: Evaluation,
    options: dict[str, dict[str, Any]] | None = None,
    pairs: list[Path] | None = None,
) -> None:
    """Run suites, show what they found, and end with the exit code that the docstring of this file tells."""
    from segue.bundle import load
    from segue.cli.sections import console, show, show_missing
    from segue.evaluate import page, report
    from segue.evaluate.run import Asked, kind_of, run
    from segue.evaluate.suite import Kind

    use_threads(asked.threads)
    loaded = load(asked.bundle)
    told, how = kind_of(loaded)
    kind: Kind = told if asked.kind is None else one_of("--kind", asked.kind, get_args(Kind))
    err.print(f"kind of sound: {kind} ({f'by {how}' if asked.kind is None else '--kind'})")
    times = asked.prompt_seconds, asked.seconds
    settings = Asked(tuple(asked.data), kind, asked.limit, asked.seed, *times, tuple(pairs or ()))

    def state(suite: str, now: str, why: str) -> None:
        words = {"kept": "kept from before", "begun": "...", "failed": f"not measured: {why}"}
        err.print(f"{suite}: {words.get(now, now)}")

    with bars() as progress:
        bar = stage_bars(progress)
        found = run(
            loaded,
            settings,
            names,
            asked.out,
            options,
            lambda suite, what, done, total: bar(f"{suite}: {what}", done, total),
            state,
        )
    shown = console()
    sections = [one for name, one in report.sections(found, asked.out).items() if name in names]
    for one in sections:
        show(one, shown)
    for line in found.left_out:
        shown.print(line, soft_wrap=True)
    show_missing(sections, shown)
    failed = {name: found.suites[name].failed for name in names if found.suites[name].failed}
    for name, why in failed.items():
        shown.print(f"{name}: not measured: {why}", soft_wrap=True)
    err.print(f"{page.write(asked.out)}: done")
    if failed:
        raise typer.Exit(1 if len(failed) < len(names) else 2)
