"""Verbs of listening tests: `listen make`, `listen serve`, `listen score`."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from segue.cli.options import BundleOption, ThreadsOption, one_of, use_threads
from segue.errors import SegueError
from segue.terminal import bars, err, say, stage_bars

if TYPE_CHECKING:
    from segue.listen.score import Score
    from segue.listen.statistics import Share

TestArgument = Annotated[Path, typer.Argument(metavar="TEST", help="Folder of a test, from listen make.")]


def listen_make(
    data: Annotated[list[Path], typer.Option("--data", help="Held-out folder, shard or manifest; again for more.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the test.")],
    bundle: BundleOption = "speech",
    kind: Annotated[
        str, typer.Option(help="real: recorded or made? preference: which of two systems goes on better?")
    ] = "real",
    against: Annotated[
        str | None,
        typer.Option(help="Of kind preference: acoustic-only (default), semantic-only, or another bundle."),
    ] = None,
    trials: Annotated[int, typer.Option(help="Of a rater, an even number; checks and one repeat come on top.")] = 20,
    prompt_seconds: Annotated[float, typer.Option(help="Of each recording, that all its sounds begin with.")] = 3.0,
    seconds: Annotated[float, typer.Option(help="That follow.")] = 7.0,
    seed: Annotated[int, typer.Option(min=0, help="Of every draw.")] = 0,
    text: Annotated[Path | None, typer.Option(help="The page's texts in another language (JSON).")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of what was made; in OUT by default.")] = None,
    threads: ThreadsOption = None,
) -> None:
    """Make a blind listening test: a page with sounds for raters, and the answer key apart."""
    from segue.bundle import load
    from segue.listen import make
    from segue.listen.plan import KINDS

    what = one_of("--kind", kind, KINDS)
    options = make.Options(what, trials, prompt_seconds, seconds, seed)
    use_threads(threads)
    with bars() as progress:
        compared = make.makers(load(bundle), against, what)
        key, notes = make.make(compared, data, out, options, cache, text, stage_bars(progress))
    for note in notes:
        err.print(f"note: {note}")
    err.print(f"{out}: {key.length} trials a rater, {' against '.join(key.systems)}")
    err.print(f"for raters: {out / 'page'}/index.html, or segue listen serve {out}; keep key.json to yourself")


def listen_serve(
    test: TestArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every network of this machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8765,
) -> None:
    """Give a test's page to raters and keep their answers."""
    from segue.listen.server import serving

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with serving(test, host, port) as server:
        address = f"[{host}]" if ":" in host else host
        err.print(f"http://{address}:{server.server_port}/ takes answers into {test / 'answers.jsonl'}; Ctrl-C stops")
        if host not in ("127.0.0.1", "localhost", "::1"):
            err.print("note: others can reach this, and what they send is not encrypted")
        server.serve_forever()


def listen_score(
    test: TestArgument,
    answers: Annotated[
        list[Path] | None, typer.Argument(metavar="[ANSWERS.json ...]", help="Files that raters downloaded.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of figures on standard output.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap over raters.")] = 0,
) -> None:
    """What the raters of a test heard: shares, intervals, agreement, checks."""
    from segue.evaluate.section import plain
    from segue.listen.answers import collect
    from segue.listen.key import read_key
    from segue.listen.score import score

    key = read_key(test)
    sessions, notes = collect(test, key, answers or [])
    for note in notes:
        err.print(f"note: {note}")
    if not sessions:
        raise SegueError(f"{test}: no answers yet; give the files that raters downloaded, or wait for listen serve")
    result = score(key, sessions, seed)
    if as_json:
        about = {"test": key.test, "kind": key.kind, "systems": key.systems, "facts": key.facts, "notes": notes}
        say(json.dumps(plain({**about, **asdict(result)}), allow_nan=False))
        return
    _print(key.kind, key.systems, result)


def _print(kind: str, systems: tuple[str, str], result: Score) -> None:
    """Tables and lines on standard output."""
    console = Console(markup=False) if err.is_terminal else Console(markup=False, width=160)
    what = "right" if kind == "real" else f"for {systems[0]}"
    console.print(f"{systems[0]} against {systems[1]}; half would be chance")
    table = Table("raters", "", what, "95 % exact", "p", "95 % over raters", "d'", "c", "alpha", box=box.MARKDOWN)
    for name, found in (("passed the checks", result.kept), ("all who finished", result.finished)):
        seen, over = found.detection, found.over_raters
        table.add_row(
            name,
            str(found.raters),
            _shown(found.share),
            _interval(found.share.low, found.share.high),
            _number(found.share.p, 4),
            _interval(over.low, over.high),
            _number(seen.sensitivity if seen else None),
            _number(seen.criterion if seen else None),
            _number(found.alpha),
        )
    console.print(table)
    own = Table("recording", *(("recorded: right", "made: right") if kind == "real" else (what,)), box=box.MARKDOWN)
    for row in result.recordings:
        own.add_row(row.name, *([_shown(row.real)] if row.real else []), _shown(row.made))
    console.print(own)
    checks = ", ".join(f"{name} {_shown(passed)}" for name, passed in result.checks.items())
    button = "recorded" if kind == "real" else "the first"
    for line in (
        f"left out: {result.failed} who failed a check, {result.unfinished} who did not finish",
        f"checks, of all who finished: {checks or 'none'}",
        f"said '{button}': {_shown(result.kept.first_answer)}; repeated trial answered alike: "
        f"{_shown(result.consistent)}; sides heard right: {_shown(result.ears)}",
        "d' 0 is chance; c above 0 says 'recorded' too readily; alpha (Krippendorff) 1 is agreement, 0 chance",
    ):
        console.print(line, soft_wrap=True)


def _shown(some: Share) -> str:
    """So many of so many."""
    return f"{some.share:.1%} ({some.count} of {some.total})" if some.total else "none"


def _interval(low: float, high: float) -> str:
    """Ends of an interval of shares."""
    return f"{low:.1%} to {high:.1%}" if low == low else "-"


def _number(value: float | None, digits: int = 2) -> str:
    """A figure, or a dash."""
    return "-" if value is None or value != value else f"{value:.{digits}f}"
