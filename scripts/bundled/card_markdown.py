"""Pieces of Markdown that model cards are made of: tables, links, folded paragraphs."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

WIDTH = 120
NOTHING = "-"
"""Stands in a table where there is no figure."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells as they are; upright bars in them are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def link(target: Path, card: Path, name: str | None = None) -> str:
    """A link from the card in the folder `card` to a file or folder, by its own name unless another is given."""
    return f"[{name or target.name}]({Path(os.path.relpath(target, card)).as_posix()})"


def paragraph(text: str) -> str:
    """A paragraph folded at the width of our lines."""
    return textwrap.fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def folded(title: str, text: str) -> str:
    """A text that a reader opens when it is wanted."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"<details><summary>{title}</summary>\n\n{paragraph(plain)}\n\n</details>"


def number(value: float | None, decimals: int, interval: Sequence[float | None] | None = None) -> str:
    """A figure with its 95 % interval, if there is one."""
    if value is None:
        return NOTHING
    inside = f" ({interval[0]:.{decimals}f}, {interval[1]:.{decimals}f})" if interval and None not in interval else ""
    return f"{value:.{decimals}f}{inside}"


def joined(*pieces: str) -> str:
    """Pieces with an empty line between them, the empty ones left out."""
    return "\n\n".join(piece.strip("\n") for piece in pieces if piece.strip()) + "\n"
