"""The comparison of codec choices: same batches, runs made once and resumed, rows replaced, and honest budgets."""

from __future__ import annotations

import dataclasses
import json
import types
from pathlib import Path

import benchmark
import pytest
import tiny
import torch

from segue.artifact import save_part
from segue.codec.soundstream import SoundStream
from segue.errors import SegueError
from segue.recipes import Recipe
from segue.recipes import tiny as tiny_recipe


@pytest.fixture
def choices(monkeypatch) -> types.ModuleType:
    """The script with a codec of a few hundred weights and scorers that need no packages."""
    module = benchmark.load("codec_choices")

    def small() -> Recipe:
        recipe = tiny_recipe()
        train = dataclasses.replace(recipe.codec.train, batch_size=2, crop_seconds=0.2, validate_batches=1)
        codec = dataclasses.replace(recipe.codec, model=tiny.CODEC, train=train)
        return dataclasses.replace(recipe, codec=codec)

    monkeypatch.setattr(module, "tiny", small)
    monkeypatch.setattr(module, "measures", lambda kind, rate: {"stoi": lambda original, made: 0.5})
    monkeypatch.setattr(module, "REPORTED", 1)
    return module


@pytest.fixture
def data(tmp_path) -> Path:
    for kind in ("speech", "piano"):
        for split in ("train", "valid"):
            tiny.corpus(tmp_path / "data" / kind / split, 3, 3.0)
    return tmp_path / "data"


def compare(module, name: str, data: Path, steps: int = 12, **options) -> list[dict]:
    out = data.parent / "choices.json"
    module.main(name, data, data.parent / "work", steps=steps, seconds=1.0, limit=2, json_out=out, **options)
    return json.loads(out.read_text())


def test_a_choice_is_trained_once_and_its_row_replaced(choices, data):
    first = compare(choices, "quantizer", data, only=["latent 32", "latent 128"])
    made = sorted(path.name for path in (data.parent / "work").iterdir())
    again = compare(choices, "quantizer", data, only=["latent 32"])
    assert [row["choice"] for row in first] == ["plain, latent 32", "plain, latent 128"]
    assert [row["choice"] for row in again] == ["plain, latent 128", "plain, latent 32"]
    assert {**again[1], "scores": 0} == {**first[0], "scores": 0}
    assert sorted(path.name for path in (data.parent / "work").iterdir()) == made and len(made) == 2
    row = first[0]
    assert row["budget"]["steps"] == 12 and row["budget"]["sound_hours"] == round(12 * 2 * 0.2 / 3600, 3)
    assert {"speech_mel", "piano_loss"} <= row["budget"]["held_out"].keys()
    assert row["scores"]["12"]["stoi"] == 0.5 and row["scores"]["12"]["pesq_wb"] is None
    assert row["scores"]["files"] == ["clip001.wav", "clip002.wav"]  # the first is kept for the report
    assert len(row["scores"]["gain_db"]) == 12 and row["scores"]["multiply_adds_m"] > 0


def test_weights_as_they_are_come_from_the_run_of_their_average(choices, data):
    save_part(tiny.make_codec().to_part({}), data / "start")
    rows = compare(choices, "averaging", data, start=data / "start")
    assert [row["averaged"] for row in rows] == [True, False]
    (folder,) = (data.parent / "work").iterdir()
    averaged, own = (choices.load_part(folder / name, "codec").tensors for name in ("artifact", "unaveraged"))
    assert not torch.equal(averaged["decoder.head.weight"], own["decoder.head.weight"])


def test_choices_go_on_from_a_codec_with_all_of_it_or_with_its_pair(choices, data, tmp_path):
    codec = tiny.make_codec()
    save_part(codec.to_part({}), tmp_path / "start")
    place = choices.Place(data, tmp_path / "w", tmp_path / "start")
    for start, kept in (("all", True), ("pair", False)):
        choice = choices.Choice("x", start=start)
        training = choices.fresh(choices.recipe_of(choice, 12, 0, place), place)
        fresh = {name: value.clone() for name, value in training.codec.state_dict().items()}
        choices._begin(training, choice, tmp_path / "start")
        for name, value in training.codec.state_dict().items():
            expected = codec.state_dict()[name] if kept or not name.startswith("quantizer.") else fresh[name]
            assert torch.equal(value, expected) and torch.equal(training.average.average[name], expected), name
    rows = compare(choices, "discriminators", data, only=["none", "periods"], start=tmp_path / "start")
    assert [row["budget"]["steps"] for row in rows] == [12, 12]
    (folder, *_) = (data.parent / "work").iterdir()
    assert json.loads((folder / "config.json").read_text())["of"] == codec.fingerprint
    other = choices.Choice("y", ("model.codebook_size=8",), "all")
    with pytest.raises(SegueError, match="other sizes"):
        choices.trained(other, 12, 0, place, print)


def test_equal_compute_gives_a_costlier_step_fewer_of_them(choices, data, monkeypatch):
    costs = {"frame-domain": 1.0, "SEANet, 8 channels": 0.5, "SEANet, 12 channels": 2.0}
    monkeypatch.setattr(choices, "pace", lambda choice, seed, place: costs[choice.name])
    place = choices.Place(data, data.parent / "work", data)
    pairs = choices.COMPARISONS["pairs-equal-compute"]
    assert choices.steps_of(pairs, 40, 0, place) == [40, 80, 20]
    monkeypatch.setattr(choices, "pace", None)  # measured once
    assert choices.steps_of(pairs, 40, 0, place) == [40, 80, 20]


def test_a_choice_that_goes_on_has_the_sizes_of_what_it_goes_on_from(choices, tmp_path):
    config = dataclasses.replace(tiny.CODEC, codebook_size=4)
    save_part(SoundStream(config).to_part({}), tmp_path / "start")
    place = choices.Place(tmp_path, tmp_path, tmp_path / "start")
    for start, sizes in (("nothing", tiny.CODEC), ("pair", config), ("all", config)):
        recipe = choices.recipe_of(choices.Choice("x", start=start), 12, 0, place)
        assert recipe.model == sizes
        assert recipe.train.learning_rate == (3e-4 if start == "all" else tiny_recipe().codec.train.learning_rate)


def test_codebooks_start_at_half_of_a_short_training(choices, tmp_path):
    place = choices.Place(tmp_path, tmp_path, tmp_path)
    late = choices.Choice("x", (choices.LATE_CODES,))
    assert [choices.recipe_of(late, steps, 0, place).objective.warm_steps for steps in (40, 400, 900)] == [20, 200, 200]


def test_every_choice_is_one_that_can_be_made(choices, tmp_path):
    save_part(tiny.make_codec().to_part({}), tmp_path)
    place = choices.Place(tmp_path, tmp_path, tmp_path)
    for name, several in choices.COMPARISONS.items():
        assert len({choice.name for choice in several}) == len(several), name
        for choice in several:
            choices.recipe_of(choice, 40, 0, place)


def test_a_comparison_that_is_not_there_is_refused(choices, data):
    with pytest.raises(SegueError, match="discriminators"):
        compare(choices, "colour", data)
