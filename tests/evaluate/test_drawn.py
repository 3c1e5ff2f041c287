"""Plots of sections: drawn where there is something to draw, told where there is not, never in the way of figures."""

from __future__ import annotations

import math
import sys

import pytest

from segue.errors import SegueError
from segue.evaluate import drawn, plots
from segue.evaluate.measures import Figure
from segue.evaluate.section import Column, Section, Table
from segue.evaluate.suites import SUITES

COLUMNS = (Column("kbit_s", "kbit/s"), Column("pesq", "PESQ", "higher"), Column("stoi", "STOI", "higher"))
ROWS = {
    "12 codebooks": {"kbit_s": Figure(6.0), "pesq": Figure(1.9, 1.8, 2.0)},
    "3 codebooks": {"kbit_s": Figure(1.5), "pesq": Figure(1.3, 1.2, math.nan)},
    "original": {"pesq": Figure(4.5), "stoi": None},
}
TABLE = Table("codec", "Quality", COLUMNS, ROWS)


def test_sections_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    found = drawn.with_plots(Section("codec", "Codec", "", (TABLE,)), "codec", tmp_path)
    assert [plot.picture for plot in found.plots] == ["pictures/codec-codec.png"] and not found.not_measured
    assert (tmp_path / "pictures/codec-codec.png").read_bytes().startswith(b"\x89PNG")
    rows = Table(
        "pairs", "Pairs", (Column("accuracy", "accuracy", "higher"),), {"a": {"accuracy": Figure(0.7)}, "b": {}}
    )
    assert len(drawn.with_plots(Section("lm", "LM", "", (rows,)), "lm", tmp_path).plots) == 1
    alone = Table("pairs", "Pairs", rows.columns, {"a": rows.rows["a"]})
    assert drawn.with_plots(Section("lm", "LM", "", (alone,)), "lm", tmp_path).plots == ()


def test_rows_apart_are_joined_among_themselves(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    kept: list = []
    monkeypatch.setattr(plots, "_keep", lambda figure, path: kept.append(figure))
    refined = {f"{name}, refined": row for name, row in ROWS.items() if name != "original"}
    drawn._by_bitrate(Table("codec", "Quality", COLUMNS, ROWS | refined), tmp_path / "x.png")
    drawn._by_bitrate(TABLE, tmp_path / "x.png")
    both, plain = (figure.axes[0] for figure in kept)
    assert [len(line.get_xdata()) for line in both.lines if line.get_marker() == "o"] == [2, 2]
    assert [len(line.get_xdata()) for line in plain.lines if line.get_marker() == "o"] == [2]
    assert [text.get_text() for text in both.get_legend().get_texts()] == ["original", "refined"]


def test_what_can_not_be_drawn_is_told(tmp_path, monkeypatch):
    nothing = Table("codec", "Quality", COLUMNS, {"a": {"pesq": None}, "b": {"kbit_s": Figure(1.0)}})
    for draw in (lambda: plots.against(nothing, "kbit_s", ("pesq",), tmp_path / "x.png"),
                 lambda: plots.rows_apart(nothing, ("pesq",), tmp_path / "x.png")):  # fmt: skip
        with pytest.raises(SegueError, match="too little was measured"):
            draw()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    found = drawn.with_plots(Section("codec", "Codec", "", (TABLE,)), "codec", tmp_path)
    assert found.plots == () and 'pip install "segue[eval]"' in found.not_measured["plot of Quality"]
    assert found.tables == (TABLE,) and not (tmp_path / "pictures").exists()


def test_only_suites_are_drawn():
    assert drawn.DRAWINGS.keys() <= set(SUITES)
