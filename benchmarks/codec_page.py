"""One HTML file to hear and see what a codec keeps: original and reconstructions side by side, for each sound file.

    python benchmarks/codec_page.py FOLDER --out page.html --codebooks 3 --codebooks 12

wave (N,) -> spectrogram (bins, frames) in dB re a full-scale sine -> PNG; wave -> WAV. Both go into the page, which
needs no network, no other file and no package beyond Segue's own. The dB scale is one for the whole page; half
a percent of the originals lies above it.
"""

from __future__ import annotations

import base64
import html
import io
import math
import sys
import wave as wav
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from segue import audio
from segue.artifact import Part, check_writable, load_part, written_file
from segue.bundle import BUNDLED
from segue.codec.soundstream import SoundStream
from segue.errors import SegueError
from segue.evaluate.players import COLOURS, RANGE_DB, picture, spectrogram

WIDTH, HEIGHT = 420, 216
LEFT, RIGHT, TOP, BOTTOM = 34, 412, 8, 184
"""A panel and the spectrogram's place in it, in its own units."""

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1d1f23; --soft: #5d636e; --rule: #dfe2e7; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #15171a; --ink: #e8eaed; --soft: #9aa1ac; --rule: #30343a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 1.5rem 1rem 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1rem; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--rule);
  overflow-wrap: anywhere; }
p, figcaption span { color: var(--soft); }
p { margin: .25rem 0; max-width: 60rem; }
.row { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
figure { margin: 0; }
figcaption { font-weight: 600; }
figcaption span { font-weight: 400; }
audio { width: 100%; height: 2.5rem; display: block; }
svg { width: 100%; height: auto; display: block; cursor: pointer; }
svg text { fill: var(--soft); font-size: 12px; }
svg .tick { stroke: var(--soft); }
svg .head { stroke: #fff; stroke-width: 1.5; }
.legend { display: flex; align-items: center; gap: .6rem; color: var(--soft); font-size: .85rem; margin-top: .75rem; }
.legend i { flex: 0 1 16rem; height: .75rem; border-radius: 2px; }
"""

SCRIPT = """
const figures = [...document.querySelectorAll('figure')];
for (const figure of figures) {
  const sound = figure.querySelector('audio'), picture = figure.querySelector('svg');
  const head = picture.querySelector('.head');
  const draw = () => {
    const x = LEFT + (RIGHT - LEFT) * (sound.currentTime / (sound.duration || 1));
    head.setAttribute('x1', x); head.setAttribute('x2', x);
    if (!sound.paused) requestAnimationFrame(draw);
  };
  sound.addEventListener('play', () => {
    for (const other of figures) {
      const playing = other.querySelector('audio');
      if (other === figure || playing.paused) continue;
      if (other.parentNode === figure.parentNode) sound.currentTime = playing.currentTime;
      playing.pause();
    }
    draw();
  });
  sound.addEventListener('seeked', draw);
  picture.addEventListener('click', event => {
    const box = picture.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * WIDTH;
    sound.currentTime = Math.min(1, Math.max(0, (x - LEFT) / (RIGHT - LEFT))) * (sound.duration || 0);
  });
}
"""


def wav_file(wave: Tensor, rate: int) -> bytes:
    """A wave (N,) as a 16-bit WAV file."""
    held = io.BytesIO()
    with wav.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((wave.clamp(-1, 1) * 32767).round().to(torch.int16).numpy().astype("<i2").tobytes())
    return held.getvalue()


def inline(kind: str, data: bytes) -> str:
    """A file as an address."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def ticks(end: float, most: int) -> list[float]:
    """Round numbers from 0 to `end`, `most` at most besides 0."""
    step = next(s for k in range(-2, 6) for s in (10.0**k, 2 * 10.0**k, 5 * 10.0**k) if end / s <= most)
    return [index * step for index in range(math.floor(end / step + 1e-9) + 1)]


def panel(name: str, detail: str, wave: Tensor, rate: int, levels: Tensor, top_db: float) -> str:
    """One sound: its name, its spectrogram with axes, its player."""
    seconds, high = wave.shape[-1] / rate, rate / 2000
    marks = []
    for value in ticks(seconds, 6):
        x = LEFT + (RIGHT - LEFT) * value / seconds
        marks.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{BOTTOM}" y2="{BOTTOM + 4}"/>')
        marks.append(f'<text x="{x:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{value:g}</text>')
    for value in ticks(high, 4):
        y = BOTTOM - (BOTTOM - TOP) * value / high
        marks.append(f'<line class="tick" x1="{LEFT - 4}" x2="{LEFT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        marks.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    place = f'x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}"'
    image = inline("image/png", picture(levels, top_db))
    return f"""<figure>
<figcaption>{html.escape(name)} <span>{html.escape(detail)}</span></figcaption>
<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Spectrogram: {html.escape(name)}">
<image {place} preserveAspectRatio="none" href="{image}"/>
{"".join(marks)}
<text x="{RIGHT}" y="{HEIGHT - 3}" text-anchor="end">time, s</text>
<text x="0" y="{HEIGHT - 3}">frequency, kHz</text>
<line class="head" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{BOTTOM}"/>
</svg>
<audio controls preload="metadata" src="{inline("audio/wav", wav_file(wave, rate))}"></audio>
</figure>"""


def page(part: Part, codec: SoundStream, waves: dict[str, Tensor], counts: list[int]) -> str:
    """The whole page.

    Args:
        part: what the codec was loaded from.
        codec: the codec.
        waves: name -> (N,) at the codec's sample rate.
        counts: codebooks of each reconstruction.
    """
    rate = codec.sample_rate
    levels = {name: spectrogram(wave, rate) for name, wave in waves.items()}
    loudest = np.quantile(np.concatenate([level.numpy().ravel() for level in levels.values()]), 0.995)
    top_db = 5 * math.ceil(loudest / 5)
    sections = []
    for name, wave in waves.items():
        plain = f"{rate / 1000:g} kHz, {rate * 16 / 1000:g} kbit/s"
        panels = [panel("original", plain, wave, rate, levels[name], top_db)]
        for count in counts:
            made = codec.decode(codec.encode(wave[None], num_codebooks=count))[0, : wave.shape[-1]]
            kbit_s = count * math.log2(codec.codebook_size) * codec.frame_rate / 1000
            label = f"{count} codebook{'s' if count > 1 else ''}"
            panels.append(panel(label, f"{kbit_s:g} kbit/s", made, rate, spectrogram(made, rate), top_db))
        sections.append(f'<h2>{html.escape(name)}</h2>\n<div class="row">{"".join(panels)}</div>')
    steps, hours = part.card.get("steps"), part.card.get("hours_seen")
    trained = f", trained for {steps} steps on {hours} h of sound" if steps and hours else ""
    scale = ", ".join(f"#{colour}" for colour in COLOURS)
    numbers = {"LEFT": LEFT, "RIGHT": RIGHT, "WIDTH": WIDTH}
    constants = "".join(f"const {key} = {value};" for key, value in numbers.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Codec {html.escape(codec.fingerprint)}: original and reconstructions</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Original and reconstructions</h1>
<p>Segue codec {html.escape(codec.fingerprint)}{html.escape(trained)}. Start another version of a sound while one plays,
and it goes on from the same instant. Press a spectrogram to go there.</p>
<div class="legend"><span>{top_db - RANGE_DB} dB</span><i style="background: linear-gradient(to right, {scale})"></i>
<span>{top_db} dB re a full-scale sine</span></div>
{"".join(sections)}
<script>{constants}{SCRIPT}</script>
</body>
</html>
"""


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
    try:
        typer.run(main)
    except SegueError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        sys.exit(2)
