"""What pages are made of: a document that asks nobody for anything, tables of figures, facts, lists.

Values -> HTML; all text is escaped. A script runs only if its hash stands in the document's own policy, so what a name
or a note holds is shown and never done.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources

from segue.evaluate.measures import Figure
from segue.evaluate.section import NOT_MEASURED, Better, Column, Table

ARROWS: Mapping[Better, tuple[str, str]] = {"higher": ("↑", "higher is better"), "lower": ("↓", "lower is better")}

MOST_COLUMNS = 8
"""That fit beside each other on a page."""


def escape(text: object) -> str:
    """Text as it may stand anywhere in a document, in an attribute too."""
    return html.escape(str(text), quote=True)


def web(name: str) -> str:
    """A style or a script that comes with Segue."""
    return (resources.files("segue.evaluate") / "web" / name).read_text(encoding="utf-8")


def inline(kind: str, data: bytes) -> str:
    """A file as an address."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def document(title: str, styles: Sequence[str], body: str, script: str = "") -> str:
    """A whole page.

    Args:
        title: of the window.
        styles: names of files for `web`.
        body: HTML.
        script: JavaScript that runs at its end; nothing else runs.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>
{"".join(web(name) for name in styles)}</style>
</head>
<body>
{body}
{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values, side by side where there is room."""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>\n" for name, value in pairs)
    return f'<dl class="facts">\n{rows}</dl>\n'


def listed(lines: Iterable[str], kind: str = "notes") -> str:
    """A line each; nothing if there are none."""
    rows = "".join(f"<li>{escape(line)}</li>\n" for line in lines)
    return f'<ul class="{kind}">\n{rows}</ul>\n' if rows else ""


def grid(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table that scrolls by itself where it is wider than the page.

    Args:
        caption: above it.
        columns: HTML of their heads, that of the row's name first.
        rows: HTML of cells, with `<td>` around each, the row's name first and without.
        kind: class of the table.
    """
    heads = "".join(f'<th scope="col">{column}</th>' for column in columns)
    lines = "".join(f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>\n' for name, *cells in rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">\n<table class="{kind}">\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table>\n"
        "</div>\n"
    )


def head(title: str, better: Better) -> str:
    """A column's head: its title, and which way is better."""
    if better not in ARROWS:
        return escape(title)
    arrow, words = ARROWS[better]
    *before, last = escape(title).split(" ")
    mark = f'<span class="arrow" aria-hidden="true">{arrow}</span><span class="hidden"> ({words})</span>'
    return " ".join([*before, f'<span class="head">{last} {mark}</span>'])


def figure(value: Figure | None, decimals: int) -> str:
    """A figure, its interval below it; or that it was not measured."""
    if value is None or not math.isfinite(value.value):
        return f'<span class="none">{NOT_MEASURED}</span>'
    text = f"{value.value:.{decimals}f}"
    if math.isfinite(value.low) and math.isfinite(value.high):
        ends = f"{value.low:.{decimals}f} to {value.high:.{decimals}f}"
        text += f'<span class="interval">{ends}</span>'
    return text


def table(one: Table, reasons: Callable[[str], str | None] = lambda key: None) -> str:
    """A table of figures; one of many measures and few rows has its measures under each other.

    Args:
        one: the table.
        reasons: gives the anchor that says why a column was not measured, None where there is none.
    """
    cells = {
        (name, column.key): _cell(row.get(column.key), column, reasons(column.key))
        for name, row in one.rows.items()
        for column in one.columns
    }
    corner, heads = '<span class="hidden">of</span>', [head(column.title, column.better) for column in one.columns]
    if MOST_COLUMNS < len(one.columns) > len(one.rows):
        turned = [
            [title, *(cells[name, column.key] for name in one.rows)]
            for title, column in zip(heads, one.columns, strict=True)
        ]
        return grid(one.title, [corner, *map(escape, one.rows)], turned)
    rows = [[escape(name), *(cells[name, column.key] for column in one.columns)] for name in one.rows]
    return grid(one.title, [corner, *heads], rows)


def _cell(value: Figure | None, column: Column, anchor: str | None) -> str:
    shown = figure(value, column.decimals)
    if 'class="none"' in shown and anchor:
        shown = f'<span class="none"><a href="#{escape(anchor)}">{NOT_MEASURED}</a></span>'
    return f"<td>{shown}</td>"
