"""The benchmark of tokenising runs, and its arithmetic is right."""

from __future__ import annotations

import json

import pytest
from benchmark import FOLDER, load

from segue.data.engine_local import here
from segue.errors import SegueError

benchmark = load("tokenise")


def test_it_measures_every_number_of_workers_and_says_what_it_assumes(tmp_path, bundle_folder, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(benchmark, "processes", lambda load, workers: asked.append(workers) or here(load()))
    monkeypatch.setattr(
        benchmark, "cluster", lambda load, workers, at: asked.append(f"{at} ray {workers}") or here(load())
    )
    out = tmp_path / "figures.json"
    benchmark.main([1, 3], [2], str(bundle_folder), clips=7, seconds=0.5, repeats=1, json_out=out)
    figures = json.loads(out.read_text())
    assert asked == 2 * [1, 3, "local ray 2"]
    assert [(row["engine"], row["workers"]) for row in figures["rows"]] == [
        ("processes", 1),
        ("processes", 3),
        ("ray", 2),
    ]
    assert all(row["times_real_time"]["median"] > 0 < row["bytes_a_second"] for row in figures["rows"])
    shown = capsys.readouterr().out
    assert "60,000 h" in shown and all(line[:60] in shown for line in figures["projection"]["assumptions"])


def test_the_projection_is_plain_arithmetic():
    row = {
        "engine": "ray",
        "workers": 2,
        "times_real_time_a_worker": 10 / (1 - benchmark.LOST),
        "bytes_a_second": 1000.0,
    }
    slower = {"engine": "processes", "workers": 1, "times_real_time_a_worker": 99.0, "bytes_a_second": 1.0}
    paper = benchmark.projection(
        [row, slower, {**row, "times_real_time_a_worker": 11.0}], sample_rate=16_000, hours=2400.0
    )
    assert paper["worker_hours"] == pytest.approx(240) and paper["store_gb"] == pytest.approx(8.64)
    assert paper["days"]["2"] == pytest.approx(5) and paper["read_mb_s"]["256"] == pytest.approx(256 * 0.32)


def test_too_few_clips_for_the_workers_are_refused(bundle_folder):
    with pytest.raises(SegueError, match="more than 2 clips for each"):
        benchmark.main([4], None, str(bundle_folder), clips=8)


def test_the_tables_take_the_place_of_those_before(tmp_path):
    figures = json.loads((FOLDER / "results" / "tokenise.json").read_text())
    page = tmp_path / "page.md"
    page.write_text(f"above\n\n{benchmark.MARKS[0]}\nold\n{benchmark.MARKS[1]}\n\nbelow\n")
    for _ in range(2):
        benchmark.quote(page, figures)
    text = page.read_text()
    assert text.startswith("above\n\n<!--") and text.endswith("-->\n\nbelow\n") and "old" not in text
    assert text.count("| ray ") == 1 and text.count("60,000 h") == 1
    page.write_text("no marks")
    with pytest.raises(SegueError, match="no place for the tables"):
        benchmark.quote(page, figures)


def test_the_page_quotes_the_figures_that_are_kept(tmp_path):
    page = tmp_path / "README.md"
    page.write_text((FOLDER / "README.md").read_text())
    benchmark.quote(page, json.loads((FOLDER / "results" / "tokenise.json").read_text()))
    assert page.read_text() == (FOLDER / "README.md").read_text()
