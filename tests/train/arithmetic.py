"""A training that is all arithmetic, for tests of the loop."""

from __future__ import annotations

import torch

from segue.artifact import Part
from segue.train.fabric import alone


class Slope:
    """A training that is all arithmetic: each step adds batch, rate and a draw to one number."""

    unit = "tokens"

    def __init__(self, spoil: int | None = None) -> None:
        self.world = alone()
        self.value, self.spoil, self.rates, self.prepared = torch.zeros(1, dtype=torch.float64), spoil, [], 0

    def prepare(self, batches) -> None:
        self.prepared += 1
        self.value += batches(0)

    def amount(self, batch) -> tuple[float, float]:
        return 3.0, 4.0

    def step(self, batch, rng, learning_rate) -> dict[str, float]:
        self.rates.append(learning_rate)
        self.value += batch + learning_rate + torch.rand(1, generator=rng)
        spoilt = self.spoil is not None and len(self.rates) > self.spoil
        return {"loss": float(self.value), "commitment": float("nan") if spoilt else 0.0}

    def validate(self, batch, rng) -> dict[str, float]:
        return {"loss": float(self.value + batch + torch.rand(1, generator=rng))}

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, kept) -> None:
        self.value = kept["value"].clone()

    def export(self, card) -> Part:
        return Part("slope", {}, {"value": self.value}, card=card)
