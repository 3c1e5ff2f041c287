"""The few figures of each suite that a reader asks for first: a section -> lines of text."""

from __future__ import annotations

import math

from segue.evaluate.section import Section, shown

Row = str | int
"""A row by its name, or by its place."""

HEADLINES: dict[str, tuple[tuple[str, Row, str], ...]] = {
    "codec": (("codec", -2, "pesq"), ("codec", -2, "visqol"), ("codec", -2, "distillmos")),
    "tokens": (("roles", "semantic tokens", "abx_across"), ("roles", "semantic tokens", "speaker_accuracy")),
    "lm": (("likelihood", "semantic", "perplexity"), ("pairs", 0, "accuracy")),
    "acoustic": (("acoustic", -1, "wer"), ("acoustic", -1, "wer_heard"), ("acoustic", -1, "onsets")),
    "continuation": (
        ("identity", 0, "nearer_random"),
        ("quality", 0, "distillmos"),
        ("nearer", 0, "nearer"),
    ),
    "baselines": (
        *(("baselines", system, "nearer_random") for system in range(3)),
        *(("baselines", system, "nearer") for system in range(3)),
    ),
    "detector": (("detector", "whole continuation", "accuracy"),),
}
"""Table, row and column of each; of the codec all its codebooks, as files have them. What a suite doesn't have, or
couldn't measure, is left out."""


def in_short(section: Section) -> list[str]:
    """A line each: of what, measure, and figure with its interval."""
    tables = {table.key: table for table in section.tables}
    lines = []
    for key, row, name in HEADLINES.get(section.suite, ()):
        table = tables.get(key)
        rows = list(table.rows) if table else []
        if table is None or (row not in rows if isinstance(row, str) else not -len(rows) <= row < len(rows)):
            continue
        place = row if isinstance(row, str) else rows[row]
        column = next((column for column in table.columns if column.key == name), None)
        figure = table.rows[place].get(name)
        if column is not None and figure is not None and math.isfinite(figure.value):
            lines.append(f"{place}: {column.title} {shown(figure, column.decimals)}")
    return lines
