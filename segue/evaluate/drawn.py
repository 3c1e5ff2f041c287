"""Plots that a report adds to those of the suites themselves: which table is drawn, and how.

section -> the same section with more plots, or with why there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from segue.errors import SegueError
from segue.evaluate import plots
from segue.evaluate.section import Plot, Section, Table
from segue.evaluate.suites.codec import ORIGINAL, REFINED


@dataclass(frozen=True)
class Drawing:
    """A plot of a table.

    Attributes:
        table: its key.
        title: of the plot.
        draw: table, file -> PNG.
    """

    table: str
    title: str
    draw: Callable[[Table, Path], None]


def _by_bitrate(table: Table, path: Path) -> None:
    """The recording itself is a line, not a point far to the right."""
    rows = {name: row | ({"kbit_s": None} if name == ORIGINAL else {}) for name, row in table.rows.items()}
    table = replace(table, rows=rows)
    plots.against(table, "kbit_s", ("pesq", "stoi", "visqol", "si_sdr", "distillmos"), path, apart=REFINED)


def _rows(*keys: str) -> Callable[[Table, Path], None]:
    return lambda table, path: plots.rows_apart(table, keys, path)


DRAWINGS: dict[str, tuple[Drawing, ...]] = {
    "codec": (Drawing("codec", "Quality of the codec by bitrate; dotted: the recording itself", _by_bitrate),),
    "lm": (
        Drawing("given", "What the prompt or a prefix of another recording costs a token", _rows("cost")),
        Drawing("pairs", "How often the right one of two sounds is likelier; 0.5 is chance",
                _rows("accuracy", "accuracy_summed", "frequency")),
    ),
    "acoustic": (Drawing("acoustic", "Sound made again from its semantic tokens", _rows()),),
    "continuation": (Drawing("identity", "Whose voice a continuation has", _rows()),),
    "baselines": (Drawing("baselines", "Three systems and the codec", _rows()),),
    "detector": (Drawing("detector", "Real against continued; 0.5 is chance", _rows("accuracy", "area")),),
}  # fmt: skip


def with_plots(section: Section, suite: str, out: Path) -> Section:
    """Draw what there is to draw of a section.

    Args:
        section: of the suite.
        suite: its name.
        out: folder of the report.

    Returns:
        the section, with its plots, and among `not_measured` those that couldn't be drawn.
    """
    tables, drawn, missing = {table.key: table for table in section.tables}, list(section.plots), {}
    for drawing in DRAWINGS.get(suite, ()):
        table = tables.get(drawing.table)
        if table is None or len(table.rows) < 2:
            continue
        place = f"pictures/{suite}-{drawing.table}.png"
        try:
            drawing.draw(table, out / place)
        except SegueError as error:
            missing[f"plot of {table.title}"] = " ".join(str(error).split())
            continue
        drawn.append(Plot(drawing.title, place))
    return replace(section, plots=tuple(drawn), not_measured=section.not_measured | missing)
