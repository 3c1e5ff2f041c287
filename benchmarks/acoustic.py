"""How well and how fast codes are made: coarse and fine stage against the parallel decoder, over held-out files.

    python benchmarks/acoustic.py FOLDER --bundle speech --json acoustic-speech.json
    python benchmarks/acoustic.py FOLDER --bundle piano --kind piano --json acoustic-piano.json

wave (N,) -> semantic tokens and codes. A decoder is given all semantic tokens and the codes of the prompt, makes the
codes that follow, in stretches as long as it makes well at once, and both sets of codes are decoded to sound. What is
scored is the part after the prompt: mel distance (mean absolute difference of natural log mel spectra, five windows)
and ViSQOL against the codec's own reconstruction, which a perfect decoder would make; DistillMOS without a reference
(speech); the level, in dB above the reconstruction's. Compute is CPU time of the process on one thread, batch 1, codes
alone; `--clock wall` takes time on the wall.

`ar` is the coarse and the fine stage at the bundle's temperatures, `parallel-n` the parallel decoder with n rounds for
the first codebook and one for each further one. Files are those of benchmarks/codec.py that are long enough; their
middle is used. Means come with a 95 % interval, bootstrap over files, and so does each difference to `ar`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from codec import NOT_MEASURED, Kind, choose, distillmos_measure, interval, middle, score, versions, visqol_measure
from command import begin, write_json
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from segue import audio
from segue.artifact import artifact_folder, check_writable, load_part
from segue.bundle import Bundle, load
from segue.codec.losses import ReconstructionLoss
from segue.data.aligned import encode_aligned
from segue.errors import SegueError
from segue.generate.acoustic import AcousticDecoder, Autoregressive
from segue.generate.parallel import Filling, Parallel
from segue.generate.sampling import Sampling
from segue.generate.stages import StageSampling
from segue.lm.parallel import KIND, ParallelModel
from segue.terminal import bars, count_bar

COLUMNS = {
    "seconds_a_second": "s of compute / s",
    "mel": "mel distance",
    "visqol": "ViSQOL",
    "distillmos": "DistillMOS",
    "level_db": "level dB",
}
ITERATIONS = (1, 4, 8, 16, 32)
CLOCKS: dict[str, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}


@dataclass(frozen=True)
class Clip:
    """A held-out file as tokens: semantic (T_s,), codes (Q, T), codec frames of the prompt, and the file's name."""

    name: str
    semantic: Tensor
    codes: Tensor
    prompt: int


def clips_of(folder: Path, bundle: Bundle, limit: int, skip: int, prompt: float, seconds: float) -> list[Clip]:
    """The middle of every file that is long enough, after the first `skip` of them."""
    clock, rate = bundle.models.clock, bundle.sample_rate
    cut = clock.codec_frames / clock.codec_frame_rate
    prompt_cuts, cuts = round(prompt / cut), round((prompt + seconds) / cut)
    long_enough = [p for p in choose(folder, 10**6) if audio.duration_seconds(p) >= cuts * cut + 0.1]
    found = []
    for path in long_enough[skip : skip + limit]:
        ours, theirs = (middle(path, cuts * cut, at) for at in (rate, bundle.semantic.sample_rate))
        semantic, codes = encode_aligned(theirs, bundle.semantic, bundle.codec, ours)
        semantic, codes = semantic[: cuts * clock.semantic_frames], codes[:, : cuts * clock.codec_frames]
        found.append(Clip(path.name, semantic, codes, prompt_cuts * clock.codec_frames))
    if not found:
        raise SegueError(f"{folder}: no file of {prompt + seconds:g} s and more left; lower --seconds or --skip")
    return found


def continued(decoder: AcousticDecoder, clip: Clip, bundle: Bundle, clock: Callable[[], float]) -> tuple[Tensor, float]:
    """Codes (Q, T) whose prompt is the clip's, and the time that it took to make what follows."""
    frames, spent = clip.codes.shape[1], 0.0
    ratio = bundle.models.clock
    have = clip.codes[None, :, : clip.prompt]
    while (done := have.shape[-1]) < frames:
        new = min(decoder.most_frames, frames - done)
        start = max(0, done - decoder.context_frames) // ratio.codec_frames
        first, last = start * ratio.semantic_frames, (done + new) // ratio.codec_frames * ratio.semantic_frames
        began = clock()
        made = decoder.extend(clip.semantic[None, first:last], have[..., start * ratio.codec_frames :], new, [0], None)
        spent += clock() - began
        have = torch.cat([have, made], dim=-1)
    return have[0], spent


def level_db(original: np.ndarray, made: np.ndarray) -> float:
    """How much louder `made` is."""
    return float(10 * np.log10((np.square(made).mean() + 1e-12) / (np.square(original).mean() + 1e-12)))


def measures(kind: Kind, rate: int) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """Every measure of a kind of sound that can be taken here: (reconstruction (N,), made (N,)) -> score."""
    distance = ReconstructionLoss(rate, 1.0, 0.0, 0.0)

    def mel(original: np.ndarray, made: np.ndarray) -> float:
        return float(distance(torch.from_numpy(made)[None], torch.from_numpy(original)[None])["mel"])

    ready = {"mel": mel, "visqol": visqol_measure(kind, rate), "level_db": level_db}
    opinion = distillmos_measure(rate) if kind == "speech" else None
    return ready | ({"distillmos": lambda original, made: opinion(made)} if opinion else {})


def means(rows: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """Means by name with intervals; None for what was not measured."""
    found = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
    return {
        **{name: round(float(np.mean(values)), 4) if values else None for name, values in found.items()},
        "ci95": {name: interval(values) for name, values in found.items()},
    }


def differences(rows: list[dict[str, Any]], to: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """Means over files of each score less that of another decoder on the same file, with intervals."""
    other = {row["file"]: row for row in to}
    pairs = [
        {n: row[n] - other[row["file"]][n] for n in names if None not in (row.get(n), other[row["file"]].get(n))}
        for row in rows
    ]
    return means(pairs, names)


def table_of(title: str, rows: list[dict[str, Any]], names: tuple[str, ...]) -> Table:
    """Means and intervals, a decoder a line."""
    table = Table(title=title, box=box.MARKDOWN)
    for column in ("decoder", *(COLUMNS[name] for name in names)):
        table.add_column(column, no_wrap=True)
    for row in rows:
        cells = []
        for name in names:
            inside = row["ci95"][name]
            spread = f" ({inside[0]:.2f}, {inside[1]:.2f})" if inside else ""
            cells.append(NOT_MEASURED if row[name] is None else f"{row[name]:.3f}{spread}")
        table.add_row(row["decoder"], *cells)
    return table


def main(
    folder: Annotated[Path, typer.Argument(help="Held-out sound files.")],
    bundle_name: Annotated[str, typer.Option("--bundle", help="speech, piano, or the folder of a bundle.")] = "speech",
    kind: Annotated[Kind, typer.Option(help="Of sound: what is measured and how.")] = "speech",
    parallel: Annotated[Path | None, typer.Option(help="A parallel decoder other than the bundle's.")] = None,
    prompt_seconds: Annotated[float, typer.Option(min=0.1)] = 3.0,
    seconds: Annotated[float, typer.Option(min=0.5, help="To make.")] = 4.0,
    limit: Annotated[int, typer.Option(min=1, help="Files.")] = 12,
    skip: Annotated[int, typer.Option(min=0, help="Files left out before them, such as those chosen on.")] = 0,
    iterations: Annotated[list[int] | None, typer.Option(help="Rounds of the first codebook.")] = None,
    temperature: Annotated[float, typer.Option(help="Of the parallel decoder's codebooks of many rounds.")] = 1.0,
    single: Annotated[float, typer.Option(help="Of its codebooks of one round.")] = 0.8,
    noise: Annotated[float, typer.Option(help="On its confidence.")] = 1.0,
    new_share: Annotated[float, typer.Option(help="Share of its window that is new.")] = 0.5,
    baseline: Annotated[bool, typer.Option(help="Run the coarse and the fine stage too.")] = True,
    clock: Annotated[Literal["cpu", "wall"], typer.Option(help="What time is taken by.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of the draws; file i has seed + i.")] = 0,
    json_out: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    """Measure acoustic decoders."""
    if json_out:
        check_writable(json_out)
    torch.set_num_threads(1)
    bundle = load(bundle_name)
    part = None if parallel is None else load_part(artifact_folder(parallel), KIND)
    model = bundle.parallel if part is None else ParallelModel.from_part(part)
    if model is None:
        raise SegueError(f"bundle {bundle_name}: it has no parallel decoder; give one with --parallel")
    for role, wanted in model.requires.items():
        if bundle.fingerprints[role] != wanted:
            raise SegueError(
                f"{parallel}: trained on {role} tokens of {wanted}, not the bundle's; give another --bundle"
            )
    ready = measures(kind, bundle.sample_rate)
    names = tuple(name for name in COLUMNS if name in ("seconds_a_second", *ready))
    sampling = StageSampling(*(Sampling(value) for value in bundle.manner.temperature))
    decoders: dict[str, Callable[[int], AcousticDecoder]] = {}
    if baseline:
        books = bundle.codec.codebooks()
        decoders["ar"] = lambda number: Autoregressive(bundle.stages, sampling, [number], codebooks=books)
    for rounds in iterations or ITERATIONS:
        filling = Filling((rounds, 1), Sampling(temperature), Sampling(single), noise)
        decoders[f"parallel-{rounds}"] = lambda number, filling=filling: Parallel(
            model, [number], filling, new_share=new_share
        )
    per_file: list[dict[str, Any]] = []
    with torch.inference_mode(), bars() as progress:
        clips = clips_of(folder, bundle, limit, skip, prompt_seconds, seconds)
        for make in decoders.values():  # once to warm up
            continued(make(seed), clips[0], bundle, CLOCKS[clock])
        told = count_bar(progress, "files")
        for number, clip in enumerate(clips):
            told(number, len(clips))
            begins = clip.prompt * bundle.codec.hop_length
            wanted = bundle.codec.decode(clip.codes[None])[0, begins:].numpy()
            alone = score({n: m for n, m in ready.items() if n == "distillmos"}, wanted, wanted)[0]
            per_file.append({"file": clip.name, "decoder": "codec", **alone})
            for name, make in decoders.items():
                codes, spent = continued(make(seed + number), clip, bundle, CLOCKS[clock])
                made = bundle.codec.decode(codes[None])[0, begins:].numpy()
                values, failed = score(ready, wanted, made)
                values["seconds_a_second"] = spent / (made.shape[0] / bundle.sample_rate)
                row = {"file": clip.name, "decoder": name, **{n: round(v, 4) for n, v in values.items()}}
                per_file.append(row | ({"failed": failed} if failed else {}))
        told(len(clips), len(clips))
    by_decoder = {name: [row for row in per_file if row["decoder"] == name] for name in ("codec", *decoders)}
    rows = [{"decoder": name, **means(own, names)} for name, own in by_decoder.items()]
    against = {
        name: differences(own, by_decoder["ar"], names)
        for name, own in by_decoder.items()
        if baseline and name not in ("codec", "ar")
    }
    console = Console(width=max(Console().width, 130), highlight=False)
    console.print(table_of(f"{len(clips)} files, {prompt_seconds:g} s + {seconds:g} s", rows, names))
    if against:
        less = [{"decoder": f"{name} less ar", **values} for name, values in against.items()]
        console.print(table_of("differences on the same file", less, names))
    for row in per_file:
        if "failed" in row:
            console.print(f"left out: {row['file']}, {row['decoder']}: {row['failed']}", markup=False)
    if json_out:
        figures = {
            "bundle": bundle.fingerprint,
            "parallel": model.to_part(model.requires, model.card).fingerprint,
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "training": {key: model.card.get(key) for key in ("steps", "hours", "training_seconds")},
            "settings": {
                "prompt_seconds": prompt_seconds,
                "seconds": seconds,
                "skip": skip,
                "seed": seed,
                "clock": clock,
                "ar": {"coarse": bundle.manner.temperature[1], "fine": bundle.manner.temperature[2]},
                "parallel": {"temperature": temperature, "single": single, "noise": noise, "new_share": new_share},
            },
            "rows": rows,
            "less_ar": against,
            "per_file": per_file,
            "versions": versions(),
        }
        if not all(math.isfinite(v) for row in per_file for v in row.values() if isinstance(v, float)):
            raise SegueError("a figure is not finite; see the table")
        write_json(json_out, figures)


if __name__ == "__main__":
    begin(main)
