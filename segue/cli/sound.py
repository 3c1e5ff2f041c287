"""Verbs on one recording: `continue` and `reconstruct`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

from segue import audio, units
from segue.bundle import Bundle, load
from segue.cli.options import BundleOption, ThreadsOption, check_out, notes_of, use_threads
from segue.errors import SegueError
from segue.terminal import bars, err, stage_bars


def continue_(
    prompt: Annotated[Path, typer.Argument(help="Sound file that begins with the prompt.")],
    out: Annotated[Path, typer.Option("--out", help="File to write: prompt, then continuation.")],
    bundle: BundleOption = "speech",
    prompt_seconds: Annotated[float, typer.Option(help="The prompt is so much of the file's beginning.")] = 3.0,
    seconds: Annotated[float, typer.Option(help="To make.")] = 7.0,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    temperature: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Of the semantic, coarse and fine stage; the bundle's own by default."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw among the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw among the likeliest tokens of this probability.")] = None,
    num: Annotated[int, typer.Option(help="Continuations; beyond one, OUT is numbered.")] = 1,
    stop_at_end: Annotated[bool, typer.Option("--stop-at-end", help="End early where the model ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of figures on standard output.")] = False,
    threads: ThreadsOption = None,
) -> None:
    """Go on with a recording."""
    began = time.perf_counter()
    check_out(out, prompt)
    if not 0 < prompt_seconds < float("inf"):
        raise SegueError(f"--prompt-seconds {prompt_seconds}: ask for more than 0")
    use_threads(threads)
    loaded = load(bundle)
    wave = _prompt(prompt, prompt_seconds, loaded)
    with bars(quiet=as_json) as progress:
        result = loaded.continue_audio(
            wave.numpy(),
            loaded.sample_rate,
            seconds,
            seed=seed,
            num=num,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop_at_end=stop_at_end,
            on_progress=stage_bars(progress),
        )
    outs = [out] if num == 1 else [out.with_stem(f"{out.stem}-{index}") for index in range(num)]
    for path, row, samples in zip(outs, result.wave, result.samples, strict=True):
        audio.write(path, row[:samples], result.sample_rate)
    wall = time.perf_counter() - began
    made = [round(samples / result.sample_rate - result.prompt_seconds, 3) for samples in result.samples]
    figures = {
        "out": [str(path) for path in outs],
        "prompt_seconds": round(result.prompt_seconds, 3),
        "seconds_made": made,
        "wall_seconds": round(wall, 3),
        "real_time_factor": round(sum(made) / wall, 3),
        "seeds": list(result.seeds),
        "bundle": loaded.name,
        "bundle_fingerprint": loaded.fingerprint,
    }
    if as_json:
        print(json.dumps(figures))
        return
    for path, length in zip(outs, made, strict=True):
        err.print(f"{path}: {result.prompt_seconds:.2f} s of prompt, {length:.2f} s of continuation")
    err.print(f"{wall:.1f} s of work, {figures['real_time_factor']} times real time")


def reconstruct(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Sound file.")],
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    codebooks: Annotated[int | None, typer.Option(help="1 to as many as the codec has; all by default.")] = None,
    bundle: BundleOption = "speech",
    threads: ThreadsOption = None,
) -> None:
    """Send a recording through the codec and back."""
    check_out(out, source)
    use_threads(threads)
    loaded = load(bundle)
    recording = audio.read(source, loaded.sample_rate)
    notes_of(recording)
    audio.write(out, loaded.reconstruct(recording.wave, codebooks), loaded.sample_rate)
    count = loaded.codec.num_codebooks if codebooks is None else codebooks
    bits = count * loaded.codec.frame_rate * (loaded.codec.codebook_size - 1).bit_length()
    err.print(f"{out}: {recording.seconds:.2f} s at {bits / 1000:.1f} kbit/s ({count} codebooks)")


def _prompt(path: Path, seconds: float, bundle: Bundle) -> Tensor:
    recording = audio.read(path, bundle.sample_rate)
    wanted = units.seconds_to_samples(seconds, bundle.sample_rate)
    if recording.wave.shape[-1] < wanted:
        raise SegueError(
            f"{path}: {recording.seconds:.2f} s long, but --prompt-seconds asks for {seconds:g}; "
            f"give --prompt-seconds {int(recording.seconds * 100) / 100:g} or less"
        )
    notes_of(recording)
    return recording.wave[:wanted]
