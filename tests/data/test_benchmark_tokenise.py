"""The benchmark of tokenising runs, and its arithmetic is right."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from segue.data.engine_local import here
from segue.errors import SegueError

PATH = Path(__file__).parents[2] / "benchmarks" / "tokenise.py"
SPEC = importlib.util.spec_from_file_location("benchmark_tokenise", PATH)
benchmark = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = benchmark
SPEC.loader.exec_module(benchmark)


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
