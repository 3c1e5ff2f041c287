"""The scaling benchmark: nested data, sizes in proportion, and rows that go on where they were stopped."""

from __future__ import annotations

import json
from dataclasses import replace

import benchmark
import numpy as np
import pytest

from segue.data.store import StoreHeader, StoreRow, TokenStoreWriter
from segue.errors import SegueError
from segue.recipes import tiny as tiny_recipe


@pytest.fixture(scope="module")
def scaling():
    return benchmark.load("scaling")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty clips of 36 s: 0.2 h."""
    place, rng = tmp_path_factory.mktemp("stores") / "tokens", np.random.default_rng(0)
    writer = TokenStoreWriter(place, StoreHeader("s", "c", vocab_size=16, num_codebooks=5, codebook_size=16))
    for number in range(20):
        semantic, codes = rng.integers(0, 16, 900), rng.integers(0, 16, (5, 1800))
        writer.add(StoreRow(f"clip-{number}", "made", "", 36.0, "CC0-1.0", None, semantic, codes))
    writer.flush()
    return place


def test_fewer_hours_are_a_part_of_more(scaling, folder):
    some, more, every = (set(scaling.some(folder, hours)) for hours in (0.05, 0.1, 0.2))
    assert (len(some), len(more), len(every)) == (5, 10, 20) and some < more
    with pytest.raises(SegueError, match=r"--hours 3: .* holds 0\.20"):
        scaling.some(folder, 3.0)


def test_a_size_is_the_recipes_in_proportion_at_a_constant_rate(scaling):
    recipe = tiny_recipe().coarse_stage
    half = scaling.sized(recipe, recipe.model.width // 2, [20, 40])
    assert (half.model.width, half.model.heads, half.model.feedforward) == (96, 2, 256)
    assert (half.train.steps, half.train.validate_every, half.train.cooldown_fraction) == (40, 20, 0.0)
    assert half.train.learning_rate == pytest.approx(2 * recipe.train.learning_rate)
    with pytest.raises(SegueError, match="multiple of 48"):
        scaling.sized(recipe, 100, [20])
    with pytest.raises(SegueError, match="multiple of the least, 30"):
        scaling.sized(recipe, 96, [40, 30])


def test_rows_are_of_every_size_and_a_second_go_trains_nothing(scaling, folder, tmp_path, monkeypatch, capsys):
    recipe = tiny_recipe()
    train = replace(recipe.coarse_stage.train, batch_size=2, crop_seconds=1.0, warmup_steps=1)
    small = replace(recipe, num_coarse=3, coarse_stage=replace(recipe.coarse_stage, train=train))
    monkeypatch.setattr(scaling, "tiny", lambda: small)
    monkeypatch.setattr(scaling, "VALID_BATCHES", 2)
    given = {"stage": "coarse", "width": [48, 96], "hours": [0.05], "steps": [2, 4], "precision": "float32"}
    scaling.main(folder, folder, tmp_path / "work", json_out=tmp_path / "out.json", **given)
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [(row["width"], row["steps"]) for row in rows] == [(48, 2), (48, 4), (96, 2), (96, 4)]
    assert rows[0]["parameters"] < rows[2]["parameters"] and all(2 < row["held_out"] < 4 for row in rows)
    assert rows[1]["passes"] == pytest.approx(4 * 2 / 3600 / 0.05, abs=0.005)
    assert "held out" in capsys.readouterr().out
    monkeypatch.setattr("segue.train.lm.StageTraining.step", None)
    scaling.main(folder, folder, tmp_path / "work", json_out=tmp_path / "again.json", **given)
    assert json.loads((tmp_path / "again.json").read_text())["rows"] == rows
    with pytest.raises(SegueError, match="--stage melody"):
        scaling.main(folder, folder, tmp_path, json_out=None, **(given | {"stage": "melody"}))
