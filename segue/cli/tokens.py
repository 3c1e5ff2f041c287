"""The verb `tokens`: a recording's semantic tokens with their times, as text or over its spectrogram."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from segue import audio
from segue.artifact import check_writable
from segue.bundle import load_parts, locate
from segue.cli.options import BundleOption, ThreadsOption, notes_of, use_threads
from segue.errors import SegueError
from segue.semantic.features import SAMPLE_RATE
from segue.semantic.repeats import deduplicate
from segue.terminal import err, say
from segue.tokenizers import load_semantic, semantic_from_part


def tokens(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Sound file.")],
    png: Annotated[Path | None, typer.Option("--png", help="Draw them over the spectrogram instead.")] = None,
    bundle: BundleOption = "speech",
    semantic: Annotated[
        str | None,
        typer.Option(
            help="Semantic tokenizer instead of the bundle's: phonetic, or the folder of an artifact or a run."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
    threads: ThreadsOption = None,
) -> None:
    """Show a recording's semantic tokens: each run of equal ones with its start, duration and number."""
    if png is not None:
        if png.suffix.lower() != ".png":
            raise SegueError(f"{png}: a picture is written as PNG; give a name that ends in .png")
        check_writable(png)
    use_threads(threads)
    tokenizer = load_semantic(semantic) if semantic else semantic_from_part(load_parts(locate(bundle))["semantic"])
    recording = audio.read(source, tokenizer.sample_rate)
    notes_of(recording)
    units, durations = deduplicate(tokenizer.encode(recording.wave[None])[0])
    if png is not None:
        from segue.evaluate.plots import tokens_over_spectrogram

        title = f"{source.name}: {len(units)} tokens of {tokenizer.vocab_size}, {tokenizer.frame_rate:g} Hz"
        wave = audio.read(source, SAMPLE_RATE).wave
        tokens_over_spectrogram(wave, units, durations, tokenizer.frame_rate, title, png)
        err.print(f"{png}: {title}")
        if not as_json:
            return
    rate = tokenizer.frame_rate
    if as_json:
        told = {"units": units.tolist(), "durations": durations.tolist(), "frame_rate": rate}
        say(json.dumps(told | {"vocab_size": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint}))
        return
    start = 0
    say(f"{'start s':>9} {'s':>6} {'token':>6}")
    for unit, duration in zip(units.tolist(), durations.tolist(), strict=True):
        say(f"{start / rate:9.2f} {duration / rate:6.2f} {unit:6d}")
        start += duration
