"""One HTML file to hear and see what a codec keeps: original and reconstructions side by side, for each sound file.

    python benchmarks/codec_page.py FOLDER --out page.html --codebooks 3 --codebooks 12

wave (N,) -> spectrogram (bins, frames) in dB re a full-scale sine -> PNG; wave -> WAV. Both go into the page, which
needs no network, no other file and no package beyond Segue's own. The dB scale is one for the whole page; half
a percent of the originals lies above it.
"""

from __future__ import annotations

import io
import math
import wave as wav
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from command import begin
from torch import Tensor

from segue import audio
from segue.artifact import Part, check_writable, load_part, written_file
from segue.bundle import BUNDLED
from segue.codec import file
from segue.codec.soundstream import SoundStream
from segue.errors import SegueError
from segue.evaluate.markup import document, escape, web
from segue.evaluate.panels import panel, scale
from segue.evaluate.players import picture, spectrogram


def wav_file(wave: Tensor, rate: int) -> bytes:
    """A wave (N,) as a 16-bit WAV file."""
    held = io.BytesIO()
    with wav.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((wave.clamp(-1, 1) * 32767).round().to(torch.int16).numpy().astype("<i2").tobytes())
    return held.getvalue()


def page(part: Part, codec: SoundStream, waves: dict[str, Tensor], counts: list[int]) -> str:
    """The whole page.

    Args:
        part: what the codec was loaded from.
        codec: the codec.
        waves: name -> (N,) at the codec's sample rate.
        counts: codebooks of each reconstruction.
    """
    rate = codec.sample_rate
    levels = [spectrogram(wave, rate).numpy().ravel() for wave in waves.values()]
    loudest = np.quantile(np.concatenate(levels), 0.995)
    top_db = 5 * math.ceil(loudest / 5)
    sections = []
    for name, wave in waves.items():
        plain = f"{rate / 1000:g} kHz, {rate * 16 / 1000:g} kbit/s"
        panels = [_shown("original", plain, wave, rate, top_db)]
        for count in counts:
            made = file.decode(codec, file.encode(codec, wave, count))
            kbit_s = count * math.log2(codec.codebook_size) * codec.frame_rate / 1000
            label = f"{count} codebook{'s' if count > 1 else ''}, as a file"
            panels.append(_shown(label, f"{kbit_s:g} kbit/s", made, rate, top_db))
        sections.append(f'<section>\n<h2>{escape(name)}</h2>\n<div class="row">{"".join(panels)}</div>\n</section>')
    steps, hours = part.card.get("steps"), part.card.get("hours_seen")
    trained = f", trained for {steps} steps on {hours} h of sound" if steps and hours else ""
    body = f"""<header>
<h1>Original and reconstructions</h1>
<p class="lead">Segue codec {escape(codec.fingerprint)}{escape(trained)}. Start another version of a sound while one
plays, and it goes on from the same instant. Press a spectrogram to go there.</p>
{scale(top_db)}</header>
<main>
{"".join(sections)}
</main>"""
    title = f"Codec {codec.fingerprint}: original and reconstructions"
    return document(title, ("report.css", "players.css"), body, web("players.js"))


def _shown(name: str, detail: str, wave: Tensor, rate: int, top_db: float) -> str:
    sound, image = (wav_file(wave, rate), "audio/wav"), picture(spectrogram(wave, rate), top_db)
    return panel(name, detail, wave.shape[-1] / rate, rate, sound, image)


def main(
    folder: Annotated[Path, typer.Argument(help="Sound files.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("page.html"),
    codec_path: Annotated[Path, typer.Option("--codec", help="A codec artifact.")] = BUNDLED / "codec",
    codebooks: Annotated[list[int] | None, typer.Option(help="Codebooks to use; give it again for more.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Files, the first by name.")] = 6,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each file, from its beginning.")] = 8.0,
) -> None:
    """Make the page."""
    check_writable(out)
    part = load_part(codec_path, "codec")
    codec = SoundStream.from_part(part)
    waves: dict[str, Tensor] = {}
    for path in list(audio.find(folder))[:limit]:
        samples = audio.read_crop(path, 0.0, seconds, codec.sample_rate)
        audio.check(samples, codec.sample_rate, str(path))
        waves[path.relative_to(folder).as_posix()] = torch.from_numpy(samples)
    if not waves:
        raise SegueError(f"{folder}: no sound files in it")
    counts = codebooks or [q for q in (3, 12) if q <= codec.num_codebooks] or [codec.num_codebooks]
    text = page(part, codec, waves, counts)
    with written_file(out) as beside:
        beside.write_text(text, encoding="utf-8")
    print(f"{out}: {len(waves)} files, {len(text) / 1e6:.1f} MB")


if __name__ == "__main__":
    begin(main)
