"""The benchmark of acoustic decoders runs on a bundle with a parallel decoder, and its arithmetic is right."""

from __future__ import annotations

import json
from pathlib import Path

import benchmark
import numpy as np
import pytest
import tiny

from segue.bundle import load as load_bundle
from segue.errors import SegueError


@pytest.fixture(scope="module")
def acoustic():
    """The benchmark as a module; it shares helpers with benchmarks/codec.py."""
    return benchmark.load("acoustic")


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory) -> Path:
    return tiny.make_bundle(tmp_path_factory.mktemp("bundles") / "with", parallel=True)


@pytest.fixture
def no_scorers(acoustic, monkeypatch) -> None:
    """Stand-ins for what comes with the extra `eval`."""
    monkeypatch.setattr(acoustic, "visqol_measure", lambda kind, rate: lambda original, made: 2.0)
    monkeypatch.setattr(acoustic, "distillmos_measure", lambda rate: None)


def figures(acoustic, bundle_folder, tmp_path, **options) -> dict:
    sounds, out = tiny.corpus(tmp_path / "sounds", 4, 3.5), tmp_path / "out.json"
    options = {"limit": 2, "iterations": [1, 3], "prompt_seconds": 1.5, "seconds": 1.0} | options
    defaults = {"kind": "speech", "parallel": None, "skip": 0, "temperature": 1.0, "single": 0.0, "noise": 1.0}
    defaults |= {"new_share": 0.5, "baseline": True, "clock": "cpu", "seed": 0, "json_out": out}
    acoustic.main(sounds, str(bundle_folder), **(defaults | options))
    return json.loads(out.read_text())


def test_every_decoder_is_measured_on_the_same_files(acoustic, bundle_folder, tmp_path, no_scorers, capsys):
    found = figures(acoustic, bundle_folder, tmp_path, skip=1)
    assert [row["decoder"] for row in found["rows"]] == ["codec", "ar", "parallel-1", "parallel-3"]
    files = {name: [r["file"] for r in found["per_file"] if r["decoder"] == name] for name in ("ar", "parallel-3")}
    assert files["ar"] == files["parallel-3"] == ["clip001.wav", "clip002.wav"]
    for row in found["rows"][1:]:
        assert row["mel"] > 0 and row["visqol"] == 2.0 and row["seconds_a_second"] > 0 and "distillmos" not in row
    assert set(found["less_ar"]) == {"parallel-1", "parallel-3"} and found["less_ar"]["parallel-1"]["visqol"] == 0
    assert found["parallel"] == load_bundle(bundle_folder).fingerprints["parallel"]
    assert "less ar" in capsys.readouterr().out


def test_what_was_the_prompt_stays_and_time_is_that_of_the_codes(acoustic, bundle_folder, tmp_path):
    bundle = load_bundle(bundle_folder)
    clip = acoustic.clips_of(tiny.corpus(tmp_path / "sounds", 1, 3.5), bundle, 1, 0, 1.5, 1.5)[0]
    assert clip.prompt == 76 and clip.codes.shape == (12, 150) and clip.semantic.shape == (75,)
    ticks = iter(range(100))
    codes, spent = acoustic.continued(acoustic.Parallel(bundle.parallel, [0]), clip, bundle, lambda: float(next(ticks)))
    assert codes.shape == clip.codes.shape and (codes[:, : clip.prompt] == clip.codes[:, : clip.prompt]).all()
    assert spent == 4  # stretches of half a crop of a second, and one for what is left


def test_what_can_not_be_measured_is_refused(acoustic, bundle_folder, tmp_path, no_scorers):
    plain = tiny.make_bundle(tmp_path / "plain")
    with pytest.raises(SegueError, match="no parallel decoder; give one"):
        figures(acoustic, plain, tmp_path)
    with pytest.raises(SegueError, match="not the bundle's"):
        figures(acoustic, tiny.make_bundle(tmp_path / "other", seed=1), tmp_path, parallel=bundle_folder / "parallel")
    with pytest.raises(SegueError, match="no file of"):
        figures(acoustic, bundle_folder, tmp_path, skip=4)


def test_differences_are_taken_file_by_file(acoustic):
    rows = [{"file": "a", "mel": 1.0}, {"file": "b", "mel": 5.0}, {"file": "c"}]
    other = [{"file": "b", "mel": 4.0}, {"file": "a", "mel": 0.0}, {"file": "c", "mel": 9.0}]
    assert acoustic.differences(rows, other, ("mel",)) == {"mel": 1.0, "ci95": {"mel": (1.0, 1.0)}}
    assert acoustic.level_db(np.ones(10), 10 * np.ones(10)) == pytest.approx(20)
