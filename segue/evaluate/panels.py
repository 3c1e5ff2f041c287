"""Sounds on a page: each with its name, its spectrogram under axes of time and frequency, and a player.

wave (N,) -> a figure of HTML that holds all of it. Figures of one row go on from one another's instant; the style and
the script behind them are web/players.css and web/players.js.
"""

from __future__ import annotations

import math

from segue.evaluate.markup import escape, inline
from segue.evaluate.players import COLOURS, RANGE_DB

WIDTH, HEIGHT = 420, 222
LEFT, RIGHT, TOP, BOTTOM = 34, 412, 8, 184
"""A panel and the spectrogram's place in it, in its own units."""


def ticks(end: float, most: int) -> list[float]:
    """Round numbers from 0 to `end`, `most` at most besides 0."""
    step = next(s for k in range(-2, 6) for s in (10.0**k, 2 * 10.0**k, 5 * 10.0**k) if end / s <= most)
    return [index * step for index in range(math.floor(end / step + 1e-9) + 1)]


def panel(
    name: str,
    detail: str,
    seconds: float,
    rate: int,
    sound: tuple[bytes, str],
    image: bytes,
    span_seconds: float | None = None,
) -> str:
    """One sound.

    Args:
        name: what it is.
        detail: more about it.
        seconds: that it lasts.
        rate: in Hz; the spectrogram goes to half of it.
        sound: a sound file and its media type.
        image: PNG of the spectrogram, from edge to edge.
        span_seconds: of the axis of time, for sounds of unlike lengths beside each other; the sound's own by default.
    """
    high, span = rate / 2000, max(seconds, span_seconds or 0.0)
    end = LEFT + (RIGHT - LEFT) * seconds / span
    marks = []
    for value in ticks(span, 6):
        x = LEFT + (RIGHT - LEFT) * value / span
        marks.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{BOTTOM}" y2="{BOTTOM + 4}"/>')
        marks.append(f'<text x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    for value in ticks(high, 4):
        y = BOTTOM - (BOTTOM - TOP) * value / high
        marks.append(f'<line class="tick" x1="{LEFT - 4}" x2="{LEFT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        marks.append(f'<text x="{LEFT - 7}" y="{y + 5:.1f}" text-anchor="end">{value:g}</text>')
    place = f'x="{LEFT}" y="{TOP}" width="{end - LEFT:.1f}" height="{BOTTOM - TOP}"'
    held, kind = sound
    return f"""<figure class="player">
<figcaption>{escape(name)} <span>{escape(detail)}</span></figcaption>
<svg viewBox="0 0 {WIDTH} {HEIGHT}" data-left="{LEFT}" data-right="{end:.1f}" data-width="{WIDTH}" role="img"
 aria-label="Spectrogram of {escape(name)}, {seconds:.1f} s">
<image {place} preserveAspectRatio="none" href="{inline("image/png", image)}"/>
{"".join(marks)}
<text x="{RIGHT}" y="{HEIGHT - 3}" text-anchor="end">time, s</text>
<text x="0" y="{HEIGHT - 3}">frequency, kHz</text>
<line class="head" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{BOTTOM}"/>
</svg>
<audio controls preload="metadata" aria-label="{escape(name)}" src="{inline(escape(kind), held)}"></audio>
</figure>"""


def scale(top_db: float) -> str:
    """What the colours of the spectrograms mean."""
    colours = ", ".join(f"#{colour}" for colour in COLOURS)
    return (
        f'<div class="scale"><span>{top_db - RANGE_DB:g} dB</span>'
        f'<i style="background: linear-gradient(to right, {colours})"></i>'
        f"<span>{top_db:g} dB re a full-scale sine</span></div>\n"
    )
