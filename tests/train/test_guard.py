"""The guard: it stops what runs away and names it, and leaves ordinary runs alone."""

from __future__ import annotations

import math
import random

import pytest

from segue.errors import SegueError
from segue.train.guard import MEMORY, PATIENCE, Guard


def falling(step: int, rng: random.Random) -> float:
    return (1 + 4 * math.exp(-step / 100)) * rng.uniform(0.6, 1.4)


def test_a_noisy_falling_run_goes_on():
    guard, rng = Guard(), random.Random(0)
    for step in range(2000):
        spike = 30.0 if step % 400 == 399 else 1.0
        guard.check({"loss": spike * falling(step, rng), "adversarial": step * 0.01}, step)


def test_a_run_that_runs_away_is_stopped_and_the_loss_named():
    guard, rng = Guard(), random.Random(0)
    with pytest.raises(SegueError, match="most of all commitment") as stopped:
        for step in range(5000):
            runaway = 1.02 ** max(0, step - 500)
            mel = falling(step, rng)
            guard.check({"loss": mel + 0.1 * runaway, "mel": mel, "commitment": 0.1 * runaway}, step)
    assert 500 < int(str(stopped.value).split("step ")[1].split(":")[0]) < 500 + 400 + PATIENCE + MEMORY


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_stops_at_once(value):
    with pytest.raises(SegueError, match="step 7: mel is"):
        Guard().check({"loss": 1.0, "mel": value}, 7)


def test_losses_around_zero_are_no_runaways():
    guard = Guard()
    for step in range(1000):
        guard.check({"loss": math.sin(step / 50)}, step)
