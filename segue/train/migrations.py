"""Checkpoints of older formats, brought up to date one version at a time.

A change to what a training keeps raises FORMAT_VERSION by one and adds a function here; a test loads a checkpoint of
every format there has been.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segue.train.patience import Patience

FORMAT_VERSION = 4


def up_to_date(state: dict[str, Any], version: int) -> dict[str, Any]:
    """A checkpoint's state as FORMAT_VERSION has it, given as `version` had it."""
    for old in range(version, FORMAT_VERSION):
        state = MIGRATIONS[old](state)
    return state


def _one_to_two(state: dict[str, Any]) -> dict[str, Any]:
    """A stage had one optimiser, AdamW, whose moments went by parameter name, and counted its steps there."""
    training = state.get("training")
    if not isinstance(training, dict) or not {"model", "optimiser"} <= training.keys():
        return state
    moments = dict(training["optimiser"])
    matrices = [name for name, weight in training["model"].items() if weight.ndim > 1]
    vectors = [name for name, weight in training["model"].items() if weight.ndim <= 1]
    numbered = {index: moments[name] for index, name in enumerate([*matrices, *vectors]) if moments.get(name)}
    steps = int(next((kept["step"] for kept in numbered.values()), 0))
    kept = {name: value for name, value in training.items() if name != "optimiser"}
    return {**state, "training": {**kept, "steps": steps, "optimisers": [numbered]}}


def _two_to_three(state: dict[str, Any]) -> dict[str, Any]:
    """A semantic tokenizer had one optimiser, AdamW."""
    training = state.get("training")
    if not isinstance(training, dict) or not {"learner", "optimiser"} <= training.keys():
        return state
    kept = {name: value for name, value in training.items() if name != "optimiser"}
    return {**state, "training": {**kept, "optimisers": [training["optimiser"]]}}


def _three_to_four(state: dict[str, Any]) -> dict[str, Any]:
    """There was no early stopping."""
    return {**state, "patience": Patience(0).state_dict()}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _one_to_two,
    2: _two_to_three,
    3: _three_to_four,
}
