"""What the codec keeps of sound at each bitrate: PESQ-WB, STOI and ViSQOL over held-out utterances.

    python benchmarks/codec.py FOLDER --bundle speech --codebooks 3 --codebooks 12 --limit 10

Scores are those of the packages `pesq`, `pystoi` and `visqol-python[lattice]` (extra `eval`). ViSQOL runs in speech
mode with its lattice model; its fallback mapping reads one to two points high and is refused. The files are the
first `--limit` of at least three seconds, taken in turn from each source, so that no source leads. Writes a table to
the terminal and, with --json, the figures and every version to a file.
"""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from pathlib import Path
from typing import Annotated

import numpy as np
import pesq
import pystoi
import typer
import visqol
from rich.console import Console
from rich.table import Table

import segue
from segue import audio
from segue.data.corpus import read_manifest

PACKAGES = ("segue", "torch", "numpy", "pesq", "pystoi", "visqol-python", "ai-edge-litert")
SHORTEST_SECONDS = 3.0


def choose(folder: Path, limit: int) -> list[Path]:
    """The first files of each source in turn."""
    facts = read_manifest(folder)
    sources: dict[str, list[Path]] = {}
    for path in audio.find(folder):
        if audio.duration_seconds(path) >= SHORTEST_SECONDS:
            sources.setdefault(facts.get(path.name, {}).get("source", ""), []).append(path)
    chosen: list[Path] = []
    while len(chosen) < limit and any(sources.values()):
        for paths in sources.values():
            if paths and len(chosen) < limit:
                chosen.append(paths.pop(0))
    return chosen


def scores(scorer: visqol.VisqolApi, original: np.ndarray, made: np.ndarray, rate: int) -> dict[str, float]:
    """Every measure of one reconstruction."""
    return {
        "pesq_wb": float(pesq.pesq(rate, original, made, "wb")),
        "stoi": float(pystoi.stoi(original, made, rate)),
        "visqol": float(scorer.measure_from_arrays(original.astype(float), made.astype(float), rate).moslqo),
    }


def main(
    folder: Annotated[Path, typer.Argument(help="Held-out sound files.")],
    bundle: str = "speech",
    codebooks: Annotated[list[int] | None, typer.Option(help="Layers to use; give it again for more.")] = None,
    limit: int = 10,
    json_out: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    """Measure a bundle's codec."""
    loaded = segue.load(bundle)
    scorer = visqol.VisqolApi()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scorer.create(mode="speech", use_lattice_model=True)
    paths = choose(folder, limit)
    rows = []
    for count in codebooks or [3, 12]:
        results = []
        for path in paths:
            wave = audio.read(path, loaded.sample_rate).wave
            made = loaded.reconstruct(wave, count)
            results.append(scores(scorer, wave.numpy(), made.numpy(), loaded.sample_rate))
        mean = {name: round(float(np.mean([result[name] for result in results])), 3) for name in results[0]}
        rows.append({"codebooks": count, "kbit_s": count * 0.5, **mean})
    table = Table(title=f"{loaded.name} codec {loaded.fingerprints['codec']}, {len(paths)} utterances")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    if json_out:
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        card = loaded.cards["codec"]
        figures = {
            "codec": loaded.fingerprints["codec"],
            "training": {key: card.get(key) for key in ("steps", "hours_seen", "training_seconds")},
            "files": [path.name for path in paths],
            "rows": rows,
            "versions": versions,
        }
        json_out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
