"""What a codec keeps of sound at each bitrate, over held-out files, and how well its codebooks work.

    python benchmarks/codec.py FOLDER --kind speech --codebooks 3 --codebooks 12 --limit 10 --json speech.json
    python benchmarks/codec.py FOLDER --kind piano --seconds 10 --json piano.json

wave (N,) -> codes (1, q, T) -> wave (N,), both waves -> scores. Packages: `pesq`, `pystoi`, `visqol-python[lattice]`
(extra `eval`), and `distillmos` where it is installed. Speech: PESQ-WB, STOI, ViSQOL in speech mode with its lattice
model (its fallback mapping reads one to two points high and is refused), SI-SDR and DistillMOS. Piano: ViSQOL in audio
mode at 48 kHz and SI-SDR; the others are made for speech. The reference is what the codec was given, at its own sample
rate, so that lost bandwidth above it does not count.

The files are the first `--limit` of at least three seconds, taken in turn from each source, so that no source leads;
of a longer one the `--seconds` in its middle. Codes are those of the encoder, and refined as in a file. Means come with
a 95 % interval: bootstrap over files.
"""

from __future__ import annotations

import importlib.metadata
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from command import begin, write_json
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from segue import audio
from segue.artifact import check_writable, load_part
from segue.bundle import BUNDLED
from segue.codec import file
from segue.codec.health import LayerHealth, codebook_health
from segue.codec.soundstream import SoundStream
from segue.data.corpus import read_manifest
from segue.errors import SegueError
from segue.evaluate import scorers
from segue.evaluate.suites.codec import REFINED
from segue.terminal import bars, count_bar

Kind = Literal["speech", "piano"]
Measure = Callable[..., float]

PACKAGES = ("segue", "torch", "numpy", "pesq", "pystoi", "visqol-python", "ai-edge-litert", "distillmos")
COLUMNS = {
    "pesq_wb": "PESQ-WB",
    "stoi": "STOI",
    "visqol": "ViSQOL",
    "si_sdr_db": "SI-SDR dB",
    "distillmos": "DistillMOS",
}
KINDS: dict[str, tuple[str, ...]] = {"speech": tuple(COLUMNS), "piano": ("visqol", "si_sdr_db")}
CODEBOOKS = (3, 6, 12)
SHORTEST_SECONDS = 3.0
NOT_MEASURED = "not measured"
BUDGET = ("steps", "hours_seen", "training_seconds")
OPINION = "pip install --no-deps -c constraints.txt distillmos xls-r-sqa"
"""What puts DistillMOS there; with its dependencies it would bring a second build of torch's sound package."""
_LYRA = {"name": "Lyra v2", "what": "Google's SoundStream as released", "status": "measured elsewhere, not in this run"}
REFERENCES: tuple[dict[str, Any], ...] = (
    {
        **_LYRA,
        "set": "seven LibriVox clips, five of them those of Debian's pocketsphinx-testdata",
        "rows": [
            {"kbit_s": 3.2, "pesq_wb": 2.15, "stoi": 0.88, "visqol": 2.94},
            {"kbit_s": 6.0, "pesq_wb": 2.81, "stoi": 0.91, "visqol": 3.47},
            {"kbit_s": 9.2, "pesq_wb": 3.07, "stoi": 0.93, "visqol": 3.59},
        ],
    },
    {
        **_LYRA,
        "set": "another set of readers",
        "rows": [
            {"kbit_s": 3.2, "pesq_wb": 2.20, "visqol": 2.47},
            {"kbit_s": 6.0, "pesq_wb": 2.73, "visqol": 2.98},
            {"kbit_s": 9.2, "pesq_wb": 2.92, "visqol": 3.07},
        ],
    },
)


def choose(folder: Path, limit: int, shortest: float = SHORTEST_SECONDS) -> list[Path]:
    """The first files of each source in turn, of at least so many seconds."""
    facts = read_manifest(folder)
    sources: dict[str, list[Path]] = {}
    for path in audio.find(folder):
        if audio.duration_seconds(path) >= shortest:
            sources.setdefault(facts.get(path.name, {}).get("source", ""), []).append(path)
    chosen: list[Path] = []
    while len(chosen) < limit and any(sources.values()):
        for paths in sources.values():
            if paths and len(chosen) < limit:
                chosen.append(paths.pop(0))
    if not chosen:
        raise SegueError(f"{folder}: no sound file of at least {shortest:g} s")
    return chosen


def middle(path: Path, seconds: float, rate: int) -> Tensor:
    """At most `seconds` from the middle of a file: (N,)."""
    start = max(0.0, (audio.duration_seconds(path) - seconds) / 2)
    samples = audio.read_crop(path, start, seconds, rate)
    audio.check(samples, rate, str(path))
    return torch.from_numpy(samples)


def tool(name: str, kind: Kind, rate: int) -> Measure:
    """A scorer of segue.evaluate, for waves at another sample rate."""
    scorer = scorers.scorer(name, kind)
    made = scorer.make()

    def measure(*waves: np.ndarray) -> float:
        return float(made(*(audio.to_mono(wave, rate, scorer.sample_rate) for wave in waves)))

    return measure


def package(name: str, kind: Kind, rate: int) -> Measure:
    """A scorer whose package must be there."""
    try:
        return tool(name, kind, rate)
    except ImportError as error:
        raise SegueError(f"{name} can't be imported ({error}); pip install -e '.[eval]'") from error


def visqol_measure(kind: Kind, rate: int) -> Measure:
    """ViSQOL in the mode that suits the sound, never with the fallback mapping."""
    try:
        return package("visqol", kind, rate)
    except Warning as error:
        raise SegueError(f"ViSQOL lacks its lattice model ({error}); pip install -e '.[eval]'") from error


def distillmos_measure(rate: int) -> Callable[[np.ndarray], float] | None:
    """DistillMOS of one wave, without a reference; None where the package is missing."""
    try:
        return tool("distillmos", "speech", rate)
    except ImportError:
        return None


def measures(kind: Kind, rate: int) -> dict[str, Measure]:
    """Every measure of a kind of sound that can be taken here: name -> (original (N,), made (N,)) -> score."""
    ready: dict[str, Measure] = {"visqol": visqol_measure(kind, rate), "si_sdr_db": package("si_sdr", kind, rate)}
    if kind == "speech":
        opinion = distillmos_measure(rate)
        ready |= {"pesq_wb": package("pesq", kind, rate), "stoi": package("stoi", kind, rate)}
        if opinion is not None:
            ready["distillmos"] = lambda original, made: opinion(made)
    return {name: ready[name] for name in KINDS[kind] if name in ready}


def score(ready: dict[str, Measure], original: np.ndarray, made: np.ndarray) -> tuple[dict[str, float], dict[str, str]]:
    """Every score of one reconstruction, and why one could not be had."""
    values, failed = {}, {}
    for name, measure in ready.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)  # so that pystoi does not make up a score
                value = measure(original, made)
        except (ValueError, RuntimeError, RuntimeWarning) as error:
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        if math.isfinite(value):
            values[name] = value
        else:
            failed[name] = f"the score is {value}"
    return values, failed


def interval(values: list[float], draws: int = 2000) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    picks = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    low, high = np.percentile(np.asarray(values)[picks].mean(axis=1), [2.5, 97.5])
    return round(float(low), 3), round(float(high), 3)


def summary(scores: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """Means by name, None where nothing was measured, with `ci95` and, in `measured`, how many files each is of."""
    found = {name: [row[name] for row in scores if name in row] for name in names}
    means = {name: round(float(np.mean(values)), 3) if values else None for name, values in found.items()}
    intervals = {name: interval(values) for name, values in found.items()}
    return {**means, "ci95": intervals, "measured": {name: len(values) for name, values in found.items()}}


def taken(row: dict[str, Any]) -> str:
    """How many codebooks, and whether their codes were refined."""
    return f"{row['codebooks']}{REFINED if row['refinement'] else ''}"


def quality_table(title: str, kind: Kind, rows: list[dict[str, Any]]) -> Table:
    """Mean and interval by bitrate, and for speech the published codec to beat."""
    names = KINDS[kind]
    table = Table(title=title, box=box.MARKDOWN)
    for column in ("codebooks", "kbit/s", *(COLUMNS[name] for name in names)):
        table.add_column(column, no_wrap=True)
    for row in rows:
        cells = []
        for name in names:
            inside = row["ci95"][name]
            spread = f" ({inside[0]:.2f}, {inside[1]:.2f})" if inside else ""
            cells.append(NOT_MEASURED if row[name] is None else f"{row[name]:.2f}{spread}")
        table.add_row(taken(row), f"{row['kbit_s']:g}", *cells)
    for number, reference in enumerate(REFERENCES if kind == "speech" else (), start=1):
        for row in reference["rows"]:
            cells = [f"{row[name]:.2f}" if name in row else "-" for name in names]
            table.add_row(f"{reference['name']} [{number}]", f"{row['kbit_s']:g}", *cells)
    return table


def health_table(health: list[LayerHealth], size: int) -> Table:
    """Use, perplexity and gain of every codebook."""
    table = Table(title=f"codebooks of {size} codes over {health[0].frames} frames", box=box.MARKDOWN)
    for column in ("codebook", "use", "perplexity", "gain dB"):
        table.add_column(column, justify="right")
    for layer in health:
        table.add_row(str(layer.layer), f"{layer.use:.0%}", f"{layer.perplexity:.0f}", f"{layer.gain_db:.2f}")
    return table


def versions() -> dict[str, str | None]:
    """Of every package that has a part in the figures; None where it is missing."""
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def told_budget(budget: dict[str, Any]) -> str:
    """The training behind the figures, in words."""
    steps, hours, seconds = (budget[key] for key in BUDGET)
    if steps is None or hours is None or seconds is None:
        return "training unknown"
    return f"{steps} steps, {hours:g} h of sound, {seconds / 60:.0f} min of training"


def main(
    folder: Annotated[Path, typer.Argument(help="Held-out sound files.")],
    kind: Annotated[Kind, typer.Option(help="Of sound: what is measured and how.")] = "speech",
    codec_path: Annotated[Path, typer.Option("--codec", help="A codec artifact.")] = BUNDLED / "codec",
    codebooks: Annotated[list[int] | None, typer.Option(help="Codebooks to use; give it again for more.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Sequences of codes weighed in a frame; as in files.")] = None,
    refine: Annotated[
        list[int] | None, typer.Option(help="Rounds of refinement; give it again for more. 0, and as in files.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Files that are scored.")] = 10,
    seconds: Annotated[float, typer.Option(min=1, help="Of each file, from its middle.")] = 20.0,
    shortest: Annotated[float, typer.Option(min=1, help="Leave out files of fewer seconds.")] = SHORTEST_SECONDS,
    health_limit: Annotated[int, typer.Option(min=1, help="Files over which codebooks are counted.")] = 100,
    json_out: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    """Measure a codec."""
    if json_out:
        check_writable(json_out)
    part = load_part(codec_path, "codec")
    codec = SoundStream.from_part(part)
    rate, bits = codec.sample_rate, math.log2(codec.codebook_size)
    counts = codebooks or [q for q in CODEBOOKS if q <= codec.num_codebooks] or [codec.num_codebooks]
    every_rounds = refine or sorted({0, file.refinement_of(codec)})
    names, ready, paths = KINDS[kind], measures(kind, rate), choose(folder, limit, shortest)
    originals: list[dict[str, Any]] = []
    per_file: list[dict[str, Any]] = []
    with bars() as progress:
        told = count_bar(progress, "scoring")
        for done, path in enumerate(paths):
            told(done, len(paths))
            wave = middle(path, seconds, rate)
            if "distillmos" in ready:
                original_only = {"distillmos": ready["distillmos"]}
                originals.append(score(original_only, wave.numpy(), wave.numpy())[0])
            for count, rounds in product(counts, every_rounds):
                made = file.decode(codec, file.encode(codec, wave, count, candidates, rounds))
                values, failed = score(ready, wave.numpy(), made.numpy())
                row = {"file": path.name, "codebooks": count, "refinement": rounds}
                row |= {name: round(value, 4) for name, value in values.items()}
                per_file.append(row | ({"failed": failed} if failed else {}))
        told(len(paths), len(paths))
        told = count_bar(progress, "codebooks")

        def waves() -> Iterator[Tensor]:
            heard = choose(folder, health_limit, shortest)
            for done, path in enumerate(heard):
                told(done + 1, len(heard))
                yield middle(path, seconds, rate)

        health = codebook_health(codec, waves())
    rows = []
    for count, rounds in product(counts, every_rounds):
        mine = [row for row in per_file if (row["codebooks"], row["refinement"]) == (count, rounds)]
        means = summary(mine, names)
        weighed = file.candidates_of(codec, count) if candidates is None else candidates
        bit_rate = round(count * bits * codec.frame_rate / 1000, 3)
        how = {"codebooks": count, "kbit_s": bit_rate, "candidates": weighed, "refinement": rounds}
        rows.append({**how, **means})

    console = Console(width=max(Console().width, 130), highlight=False)
    budget = {key: part.card.get(key) for key in BUDGET}
    title = f"codec {codec.fingerprint} ({told_budget(budget)}), {len(paths)} files of {kind}, {folder.name}"
    console.print(quality_table(title, kind, rows))
    for number, reference in enumerate(REFERENCES if kind == "speech" else (), start=1):
        facts = f"{reference['what']}, {reference['set']}; {reference['status']}"
        console.print(f"[{number}] {reference['name']}: {facts}.", markup=False)
    missing = {}
    if "distillmos" in names and "distillmos" not in ready:
        missing["distillmos"] = f"the package distillmos is not there; {OPINION}"
    elif originals:
        console.print(f"DistillMOS of the originals: {summary(originals, ('distillmos',))['distillmos']}")
    for name, why in missing.items():
        console.print(f"{COLUMNS[name]} {NOT_MEASURED}: {why}.")
    unscored = [row for row in per_file if "failed" in row]
    for row in unscored:
        console.print(f"left out: {row['file']}, {taken(row)} codebooks: {row['failed']}", markup=False)
    console.print(health_table(health, codec.codebook_size))
    if json_out:
        figures = {
            "codec": codec.fingerprint,
            "kind": kind,
            "data": "/".join(folder.resolve().parts[-2:]),
            "training": budget,
            "settings": {"limit": limit, "seconds": seconds, "shortest": shortest, "health_limit": health_limit},
            "files": [path.name for path in paths],
            "rows": rows,
            "original": summary(originals, ("distillmos",)) if originals else None,
            "not_measured": missing,
            "health": [asdict(layer) for layer in health],
            "per_file": per_file,
            "references": REFERENCES if kind == "speech" else (),
            "versions": versions(),
        }
        write_json(json_out, figures)


if __name__ == "__main__":
    begin(main)
