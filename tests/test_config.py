"""Configs: to plain values and back, and nothing is guessed."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from segue.codec.seanet import SeanetConfig
from segue.codec.spectral import SpectralConfig
from segue.config import from_dict, later, override, to_dict, to_disk
from segue.errors import SegueError
from segue.lm.parallel import ParallelConfig
from segue.lm.transformer import TransformerConfig
from segue.recipes import RECIPES, Recipe


@dataclass(frozen=True)
class Inner:
    size: int = 3
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 0.5
    on: bool = False
    kind: Literal["a", "b"] = "a"
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)


CONFIG = Outer("x", 1.5, True, "b", 4, Inner(7, (3, 4, 5)))


def test_values_survive_json():
    assert from_dict(Outer, json.loads(json.dumps(to_dict(CONFIG)))) == CONFIG


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json(name):
    recipe = RECIPES[name]()
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    assert recipe.name == name


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_share_of_the_crops_is_one(value):
    with pytest.raises(SegueError, match=f"without_semantic {value}: a share, from 0 to 1"):
        dataclasses.replace(RECIPES["tiny"]().semantic_stage, without_semantic=value)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"name": "x", "sise": 3}, "sise"),
        ({"name": "x", "inner": {"sise": 3}}, "inner.sise"),
        ({}, "name: missing"),
        ({"name": 3}, "name: expected str"),
        ({"name": "x", "inner": {"size": "three"}}, "inner.size: expected int"),
        ({"name": "x", "inner": {"size": 3.5}}, "inner.size"),
        ({"name": "x", "inner": {"size": True}}, "inner.size"),
        ({"name": "x", "inner": {"sizes": 3}}, "inner.sizes: expected a list"),
        ({"name": "x", "inner": {"sizes": ["a"]}}, "inner.sizes"),
        ({"name": "x", "inner": 3}, "inner"),
        ({"name": "x", "rate": "fast"}, "rate: expected float"),
        ({"name": "x", "rate": True}, "rate"),
        ({"name": "x", "on": 1}, "on: expected bool"),
        ({"name": "x", "kind": "c"}, "'c' is not one of 'a', 'b'"),
        ({"name": "x", "limit": "none"}, "limit"),
        ({"name": None}, "name"),
    ],
)
def test_what_does_not_fit_is_named(values, named):
    with pytest.raises(SegueError, match=named):
        from_dict(Outer, values)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: SpectralConfig(hop=0), "spectral.hop 0: at least 1"),
        (lambda: SpectralConfig(kernel=0), "spectral.kernel 0"),
        (lambda: SeanetConfig(channels=0), "seanet.channels 0"),
        (lambda: SeanetConfig(strides=(2, 0)), "seanet.strides 0"),
        (lambda: TransformerConfig(depth=0), "transformer: depth 0"),
        (lambda: TransformerConfig(kv_heads=0), "can't share 0 kv_heads"),
        (lambda: ParallelConfig(depth=0), "parallel.depth 0"),
        (lambda: ParallelConfig(attention_frames=-1), "parallel.attention_frames -1"),
    ],
)
def test_a_size_that_can_not_be_is_named(make, named):
    with pytest.raises(SegueError, match=named):
        make()


def test_whole_numbers_serve_as_floats():
    made = from_dict(Outer, {"name": "x", "rate": 2})
    assert made.rate == 2.0 and isinstance(made.rate, float)


def test_override_changes_what_is_named_and_nothing_else():
    changed = override(
        CONFIG, ["rate=3e-4", "inner.sizes=[9]", "limit=null", "kind=a", "on=false", "name=long words", "inner.size=8"]
    )
    assert changed == Outer("long words", 3e-4, False, "a", None, Inner(8, (9,)))
    assert override(CONFIG, ["rate=2"]) == dataclasses.replace(CONFIG, rate=2.0)
    assert override(CONFIG, []) == CONFIG


@pytest.mark.parametrize(
    ("assignment", "named"),
    [
        ("rate", "key=value"),
        ("rat=3", "'rat'"),
        ("inner.size.deep=3", "'deep'"),
        ("outer.size=3", "'outer'"),
        ("inner.size=big", "inner.size"),
        ("inner.size=1.5", "inner.size"),
        ("inner=3", "inner"),
        ("kind=c", "kind"),
        ("=3", "no such key"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(assignment, named):
    with pytest.raises(SegueError, match=named):
        override(CONFIG, [assignment])


def test_what_is_on_disk_must_be_complete() -> None:
    from segue.config import from_dict, to_dict
    from segue.train.loop import TrainConfig

    values = to_dict(TrainConfig())
    assert from_dict(TrainConfig, values, complete=True) == TrainConfig()
    del values["steps"]
    assert from_dict(TrainConfig, values).steps == TrainConfig().steps
    with pytest.raises(SegueError, match="steps: missing"):
        from_dict(TrainConfig, values, complete=True)


def test_a_field_that_came_later_may_lack_on_disk_and_no_other():
    @dataclass(frozen=True)
    class Grown:
        size: int = 3
        shape: Literal["old", "new"] = later("old")

    assert from_dict(Grown, {"size": 4}, complete=True) == Grown(4, "old")
    assert from_dict(Grown, {"size": 4, "shape": "new"}, complete=True) == Grown(4, "new")
    with pytest.raises(SegueError, match="size: missing"):
        from_dict(Grown, {"shape": "new"}, complete=True)
    assert to_disk(Grown(4)) == {"size": 4} and to_dict(Grown(4)) == {"size": 4, "shape": "old"}
    assert to_disk(Grown(4, "new")) == {"size": 4, "shape": "new"}
