"""What suites found, in the terminal: a table for each table of a section, notes, and what was not measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from segue.evaluate import section

WIDE = 240
"""Columns of a table that goes into a file or a pipe."""


def console() -> Console:
    """Standard output, wide enough for whole tables where it is no terminal."""
    out = Console(highlight=False, markup=False)
    return out if out.is_terminal else Console(highlight=False, markup=False, width=WIDE)


def grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], out: Console) -> None:
    """Print a table; what was not measured is dim."""
    from segue.evaluate.section import NOT_MEASURED

    table = Table(title=title, title_justify="left", box=box.ROUNDED if out.is_terminal else box.MARKDOWN)
    for place, name in enumerate(columns):
        table.add_column(Text(name), justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style="dim" if cell == NOT_MEASURED else "") for cell in row))
    out.print(table)


def show(one: section.Section, out: Console) -> None:
    """Print a section: its tables, its notes."""
    from segue.evaluate.section import shown

    out.print()
    out.print(Text(one.title, style="bold"), soft_wrap=True)
    for table in one.tables:
        if table.rows:
            rows = [
                [name, *(shown(row.get(column.key), column.decimals) for column in table.columns)]
                for name, row in table.rows.items()
            ]
            lines = [["", *(column.title for column in table.columns)], *rows]
            turned = [list(line) for line in zip(*lines, strict=True)]
            first, *rest = min((lines, turned), key=_width) if _width(lines) > out.width else lines
            grid(table.title, first, rest, out)
    for line in one.notes:
        out.print(line, soft_wrap=True)


def _width(lines: Sequence[Sequence[str]]) -> int:
    """That a table of these lines takes unfolded."""
    return 1 + sum(3 + max(map(len, column)) for column in zip(*lines, strict=True))


def show_missing(sections: Sequence[section.Section], out: Console) -> None:
    """Print what was not measured, once for each reason, with what mends it."""
    from segue.evaluate.section import NOT_MEASURED

    reasons: dict[str, list[str]] = {}
    for one in sections:
        for measure, why in one.not_measured.items():
            reasons.setdefault(why, []).append(f"{one.suite}: {measure}")
    for why, measures in reasons.items():
        out.print(Text(f"{NOT_MEASURED}: {', '.join(measures)}: {why}", style="yellow"), soft_wrap=True)
