"""A guard over the losses of a run: it ends one that is no number or that runs away, and says which loss it was."""

from __future__ import annotations

import math

from segue.errors import SegueError

MEMORY = 50
FACTOR = 3.0
PATIENCE = 100


class DivergedError(SegueError):
    """A run that was stopped for its losses; the message names the one that was no number or rose most."""


class Guard:
    """Watches one run.

    A run has run away once the mean of `loss` over some fifty steps has been above three times its least for a
    hundred steps. Losses that may be negative are watched for numbers alone.
    """

    def __init__(self) -> None:
        self._means: dict[str, float] = {}
        self._least: dict[str, float] = {}
        self._above = 0
        self._steps = 0

    def check(self, losses: dict[str, float], step: int) -> None:
        """Take in the losses of one step, `loss` first.

        Raises:
            DivergedError: if one is no number, or the run has run away.
        """
        for name, value in losses.items():
            if not math.isfinite(value):
                raise DivergedError(
                    f"training stopped at step {step}: {name} is {value}; the last checkpoint is kept. "
                    "Lower train.learning_rate or train.gradient_clip and resume"
                )
        self._steps += 1
        share = max(1 / MEMORY, 1 / self._steps)
        for name, value in losses.items():
            mean = self._means[name] = self._means.get(name, value) * (1 - share) + value * share
            if self._steps >= MEMORY:
                self._least[name] = min(self._least.get(name, mean), mean)
        first = next(iter(losses), None)
        if first is None or self._steps < MEMORY or self._least[first] <= 0:
            return
        self._above = self._above + 1 if self._means[first] > FACTOR * self._least[first] else 0
        if self._above > PATIENCE:
            worst = max((name for name in losses if name != first), key=self._rise, default=first)
            now, least = self._means[worst], self._least[worst]
            raise DivergedError(
                f"training stopped at step {step}: {first} rose to {self._rise(first):.1f} times its least, "
                f"most of all {worst} ({now:.3g}, least {least:.3g}); the last checkpoint is kept. "
                "Lower train.learning_rate and resume"
            )

    def _rise(self, name: str) -> float:
        least = self._least.get(name, 0.0)
        return self._means[name] / least if least > 0 else 0.0
