"""Two reports side by side: what both have, which is better, and what keeps them from being compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_page import ENTRY, SETTINGS

from segue.errors import SegueError
from segue.evaluate import compare_page, report, section
from segue.evaluate.compare import compare
from segue.evaluate.measures import Figure
from segue.evaluate.report import Report
from segue.evaluate.section import Column, Section, Table

COLUMNS = (Column("wer", "WER", "lower", 3), Column("mos", "MOS", "higher"), Column("rms", "RMS"))


def make(
    folder: Path, figures: dict[str, Figure | None], versions=None, entry=ENTRY, rows=("full",), **changes
) -> Path:
    """A report of one suite whose rows all have these figures."""
    folder.mkdir()
    table = Table("t", "Systems", COLUMNS, dict.fromkeys(rows, figures))
    section.save(Section("acoustic", "A", "", (table,), versions=versions or {"jiwer": "4"}), folder / "acoustic.json")
    report.save(Report(replace(SETTINGS, **changes), (), {"acoustic": entry}), folder)
    return folder


def verdicts(found) -> dict[str, str]:
    return {pair.column: pair.verdict for pair in found.figures}


def test_better_is_said_where_intervals_do_not_overlap(tmp_path):
    one = {"wer": Figure(0.5, 0.4, 0.6), "mos": Figure(3.0, 2.9, 3.1), "rms": Figure(1.0, 0.9, 1.1)}
    first = make(tmp_path / "one", one)
    two = {"wer": Figure(0.3, 0.2, 0.35), "mos": Figure(2.0, 1.9, 2.1), "rms": Figure(2.0, 1.9, 2.1)}
    found = compare(first, make(tmp_path / "two", two, bundle="other", bundle_fingerprint="1"))
    assert verdicts(found) == {"WER": "second", "MOS": "first", "RMS": "neither"}
    assert found.names == ("a <b>bundle</b>", "other") and found.warnings == []
    assert found.systems["bundle"] == ("a <b>bundle</b>", "other")
    assert found.figures[0].difference == pytest.approx(-0.2) and found.figures[0].overlap is False
    back = compare(tmp_path / "two", first)
    assert verdicts(back) == {"WER": "first", "MOS": "second", "RMS": "neither"}
    near = {"wer": Figure(0.45, 0.35, 0.55), "mos": Figure(3.2), "rms": None}
    unclear = compare(first, make(tmp_path / "three", near, rows=("full", "more")))
    assert verdicts(unclear) == {"WER": "unclear", "MOS": "unclear"} and unclear.figures[1].overlap is None
    assert unclear.only == ({"acoustic": 1}, {"acoustic": 2}) and unclear.names == ("one", "three")
    assert set(verdicts(compare(first, first)).values()) == {"equal"}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"data_fingerprint": "0", "data": ("other/valid",)}, "fingerprint of the recordings differs"),
        ({"prompt_seconds": 2.0}, "seconds of prompt differs: 1.0 and 2.0"),
        ({"versions": {"jiwer": "5"}}, "acoustic: jiwer differs in version: 4 and 5"),
        ({"entry": replace(ENTRY, versions={"segue": "0.2.0"})}, "acoustic: segue differs in version"),
        ({"entry": replace(ENTRY, options={"pairs": "x"})}, "options of acoustic differs: none and pairs x"),
    ],
)
def test_what_keeps_figures_from_comparing_is_told_first(cli, tmp_path, change, words):
    figures = {"wer": Figure(0.5)}
    first, second = make(tmp_path / "one", figures), make(tmp_path / "two", figures, **change)
    found = compare(first, second)
    assert any(line.startswith(words) for line in found.warnings)
    shown = cli("evaluate", "compare", first, second, "--html", tmp_path / "c.html")
    assert shown.code == 0 and shown.out.startswith("not comparable: ") and words in shown.out
    assert "figures don't compare" in (tmp_path / "c.html").read_text()


def test_the_same_recordings_in_another_folder_compare(tmp_path):
    first = make(tmp_path / "one", {"wer": Figure(0.5)})
    second = make(tmp_path / "two", {"wer": Figure(0.5)}, data=("moved/valid",), limit=9, seed=3, weights="float32")
    found = compare(first, second)
    assert found.warnings == [] and found.systems == {"weights": ("int8", "float32"), "seed": (0, 3)}


def test_the_verb_tells_writes_and_refuses(cli, tmp_path):
    first = make(tmp_path / "one", {"wer": Figure(0.5, 0.4, 0.6)})
    second = make(tmp_path / "two", {"wer": Figure(0.3, 0.2, 0.35)}, bundle="<i>two</i>")
    shown = cli("evaluate", "compare", first, second, "--html", tmp_path / "c.html")
    assert shown.code == 0, shown.err
    assert "-0.200" in shown.out and "<i>two</i> is better" in shown.out
    text = (tmp_path / "c.html").read_text()
    assert "&lt;i&gt;two&lt;/i&gt;" in text and "<i>two" not in text and "http:" not in text and "0.300" in text
    told = json.loads(cli("evaluate", "compare", first, second, "--json").out)
    assert told["comparable"] is True and told["figures"][0]["verdict"] == "second"
    assert told["figures"][0]["difference"] == -0.2 and told["figures"][0]["overlap"] is False
    assert cli("evaluate", "compare", first, tmp_path / "nowhere").code == 2
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "report.json").write_text('{"a": 1}')
    foreign = cli("evaluate", "compare", first, tmp_path / "three")
    assert foreign.code == 2 and "format None" in foreign.err
    wrong = cli("evaluate", "compare", first, second, "--html", tmp_path / "c.pdf")
    assert wrong.code == 2 and "ends in .html" in wrong.err
    with pytest.raises(SegueError, match="no figure is in both"):
        compare(first, make(tmp_path / "four", {"wer": None}))


def test_the_page_says_in_words_what_colours_say(tmp_path):
    first = make(tmp_path / "one", {"mos": Figure(3.0, 2.9, 3.1)})
    second = make(tmp_path / "two", {"mos": Figure(4.0, 3.9, 4.1)})
    text = compare_page.page(compare(first, second))
    assert '<span class="better">two is better</span>' in text and "2.90 to 3.10" in text
