"""How fast recordings become tokens on this machine, by workers, and what that means for 60,000 hours, on paper.

    python benchmarks/tokenise.py --workers 1 --workers 2 --ray 2 --json tokenise.json --quote benchmarks/README.md

The sound is noise, as many clips of one length as asked for: time does not depend on what is heard. Each round fills a
new store through processes of one thread each, as `segue tokenize --workers N` does, or through as many actors of a Ray
cluster that is started for it here. The clock starts when every worker has had time for two clips (an actor of Ray for
its first file) and stops with the last one; loading models and starting Ray is told apart. After a round that does not
count, engines and numbers of workers take turns, so that a busy moment hits all. The projection is arithmetic, and
prints what it takes for granted.
"""

from __future__ import annotations

import functools
import importlib.metadata
import io
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from command import begin, write_json
from pyarrow import parquet
from rich import box
from rich.console import Console
from rich.table import Table

from segue import audio
from segue.artifact import check_writable, written_file
from segue.cli.tokenize import load_tokenizers
from segue.data.corpus import fill
from segue.data.engine_local import processes
from segue.data.engine_ray import cluster
from segue.data.work import Engine
from segue.errors import SegueError

HOURS = 60_000.0
FLEETS = (32, 256, 1024)
WARM_CLIPS = 2
LOST = 0.05
MARKS = ("<!-- tokenise: begin -->", "<!-- tokenise: end -->")


def make_sound(folder: Path, clips: int, seconds: float, sample_rate: int) -> None:
    """Clips of noise."""
    rng = torch.Generator().manual_seed(0)
    for index in range(clips):
        audio.write(
            folder / f"{index:05d}.wav", 0.1 * torch.randn(round(seconds * sample_rate), generator=rng), sample_rate
        )


def engine_of(name: str, load: Any, workers: int) -> Engine:
    """Processes here, or actors of a Ray cluster that is started here."""
    return cluster(load, workers, "local") if name == "ray" else processes(load, workers)


def one_round(
    sound: Path, engine: Engine, tokenizers: Any, workers: int, seconds: float, store: Path
) -> dict[str, float]:
    """One store filled: seconds of sound a second once all workers are warm, and seconds until the first clip."""
    began, times = time.perf_counter(), []

    def told(done: int, total: int) -> None:
        times.append((time.perf_counter(), done))

    done = fill([sound], store, tokenizers, engine, on_progress=told)
    if done.skipped or not done.written:
        raise SegueError(f"{done.skipped} of {done.written + done.skipped} clips were skipped")
    first, groups = next(at for at, count in times if count), written_groups(store)
    if groups:
        times, warm = groups, groups[min(workers, len(groups)) - 1][1]
    else:
        warm = min(WARM_CLIPS * workers, done.written - 1)
    start, before = next(pair for pair in times if pair[1] >= warm)
    ended = times[-1][0]
    if before == done.written:
        raise SegueError(f"{done.written} clips came all at once; give more --clips")
    size = sum(path.stat().st_size for path in store.glob("part-*.parquet"))
    return {
        "times_real_time": (done.written - before) * seconds / (ended - start),
        "start_seconds": first - began,
        "bytes_a_second": size / done.seconds,
    }


def written_groups(store: Path) -> list[tuple[float, int]]:
    """When each file of an actor of Ray was there, and clips until then; Ray itself hands on several at once."""
    times, count = [], 0
    for path in sorted(store.glob("part-g*.parquet"), key=lambda path: path.stat().st_mtime_ns):
        count += parquet.read_metadata(path).num_rows
        times.append((path.stat().st_mtime_ns / 1e9, count))
    return times


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def summary(rounds: dict[tuple[str, int], list[dict[str, float]]]) -> list[dict[str, Any]]:
    """A row for each engine and number of workers."""
    rows = []
    for (engine, workers), made in rounds.items():
        speed = spread([one["times_real_time"] for one in made])
        rows.append(
            {
                "engine": engine,
                "workers": workers,
                "times_real_time": speed,
                "times_real_time_a_worker": speed["median"] / workers,
                "start_seconds": spread([one["start_seconds"] for one in made]),
                "bytes_a_second": made[0]["bytes_a_second"],
            }
        )
    return rows


def projection(rows: list[dict[str, Any]], sample_rate: int, hours: float = HOURS) -> dict[str, Any]:
    """Worker-hours, days and bytes for `hours` of sound, from the row with the most workers, the slowest of those."""
    row = max(rows, key=lambda row: (row["workers"], -row["times_real_time_a_worker"]))
    speed = row["times_real_time_a_worker"] * (1 - LOST)
    worker_hours = hours / speed
    fleets = sorted({row["workers"], *FLEETS})
    return {
        "hours": hours,
        "times_real_time_a_worker": speed,
        "worker_hours": worker_hours,
        "days": {str(workers): worker_hours / workers / 24 for workers in fleets},
        "read_mb_s": {str(workers): workers * speed * sample_rate * 2 / 1e6 for workers in fleets},
        "store_gb": hours * 3600 * row["bytes_a_second"] / 1e9,
        "assumptions": [
            f"a worker anywhere is as fast as one here with {row['workers']} at work ({row['engine']}): one CPU thread",
            f"{LOST:.0%} of the time goes to starts, groups done again after a loss, and waiting for the last ones",
            f"sound is {sample_rate} Hz, 16 bit, mono, uncompressed, and the disk gives it as fast as it is asked for",
            "listing the recordings and joining the results take no time beside the tokenising",
            "tokens take as much room as those of the noise measured here; speech repeats more, and takes less",
            "no GPU: none was measured",
        ],
    }


def show(figures: dict[str, Any], console: Console) -> None:
    """The figures as tables."""
    settings = figures["settings"]
    title = f"{settings['clips']} clips of {settings['seconds']:g} s, {settings['repeats']} rounds: median (low-high)"
    table = Table(title=title, box=box.MARKDOWN)
    for column in (
        "engine",
        "workers",
        "s of sound a second",
        "a worker",
        "s until the first clip",
        "kB a minute in the store",
    ):
        table.add_column(column)
    for row in figures["rows"]:
        speed, start = row["times_real_time"], row["start_seconds"]
        cells = [f"{speed['median']:.1f} ({speed['low']:.1f}-{speed['high']:.1f})"]
        cells += [f"{row['times_real_time_a_worker']:.1f}", f"{start['median']:.1f}"]
        table.add_row(row["engine"], str(row["workers"]), *cells, f"{row['bytes_a_second'] * 60 / 1e3:.0f}")
    console.print(table)
    paper = figures["projection"]
    title = f"on paper: {paper['hours']:,.0f} h, {paper['worker_hours']:,.0f} worker-hours, {paper['store_gb']:,.0f} GB"
    table = Table(title=title, box=box.MARKDOWN)
    for column in ("workers", "days", "MB/s to be read"):
        table.add_column(column)
    for workers, days in paper["days"].items():
        table.add_row(workers, f"{days:,.1f}", f"{paper['read_mb_s'][workers]:,.1f}")
    console.print(table)
    console.print("It takes for granted that", *(f"- {line}" for line in paper["assumptions"]), sep="\n", markup=False)


def quote(path: Path, figures: dict[str, Any]) -> None:
    """Put the tables between the two marks of a Markdown file, in place of those of an earlier run.

    Raises:
        SegueError: if the marks are not there.
    """
    text = path.read_text()
    if text.count(MARKS[0]) != 1 or text.count(MARKS[1]) != 1:
        raise SegueError(f"{path}: no place for the tables; mark it with {MARKS[0]} and {MARKS[1]}, a line each")
    before, rest = text.split(MARKS[0])
    shown = io.StringIO()
    show(figures, Console(file=shown, width=160, highlight=False))
    lines = [line.strip() for line in shown.getvalue().splitlines()]
    with written_file(path) as beside:
        beside.write_text(f"{before}{MARKS[0]}\n" + "\n".join(lines) + f"\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


def main(
    workers: Annotated[list[int] | None, typer.Option("--workers", help="Give it again for more; 1 and 2.")] = None,
    ray: Annotated[list[int] | None, typer.Option("--ray", help="Actors of Ray; give it again for more.")] = None,
    bundle: Annotated[str, typer.Option(help="Whose tokenizers.")] = "speech",
    codec: Annotated[str | None, typer.Option(help="Codec instead of the bundle's.")] = None,
    clips: Annotated[int, typer.Option(min=2, help="A round.")] = 40,
    seconds: Annotated[float, typer.Option(min=0.5, help="A clip.")] = 15.0,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds that count.")] = 3,
    json_out: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
    quoted_in: Annotated[Path | None, typer.Option("--quote", help="Markdown file to put the tables into.")] = None,
) -> None:
    """Time the tokenising of a corpus."""
    if json_out:
        check_writable(json_out)
    kinds = list(dict.fromkeys([*(("processes", n) for n in workers or (1, 2)), *(("ray", n) for n in ray or ())]))
    numbers = [number for _, number in kinds]
    if min(numbers) < 1 or clips <= WARM_CLIPS * max(numbers):
        raise SegueError(f"workers {numbers}: at least 1, and more than {WARM_CLIPS} clips for each; got {clips} clips")
    load = functools.partial(load_tokenizers, bundle, codec, None)
    tokenizers = load()
    rate = tokenizers.codec.sample_rate
    rounds: dict[tuple[str, int], list[dict[str, float]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as place:
        sound = Path(place) / "sound"
        make_sound(sound, clips, seconds, rate)
        for repeat in range(repeats + 1):
            for engine, number in kinds:
                store = Path(place) / f"{repeat}-{engine}-{number}"
                made = one_round(sound, engine_of(engine, load, number), tokenizers, number, seconds, store)
                if repeat:
                    rounds[engine, number].append(made)
    rows = summary(rounds)
    figures = {
        "tokenizers": {"semantic": tokenizers.semantic.fingerprint, "codec": tokenizers.codec.fingerprint},
        "settings": {"clips": clips, "seconds": seconds, "repeats": repeats},
        "rows": rows,
        "projection": projection(rows, rate),
        "machine": {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {
            name: importlib.metadata.version(name) for name in ("segue", "torch", "pyarrow", *(["ray"] if ray else []))
        },
    }
    show(figures, Console(width=max(Console().width, 120), highlight=False))
    if json_out:
        write_json(json_out, figures)
    if quoted_in:
        quote(quoted_in, figures)


if __name__ == "__main__":
    begin(main)
