"""bfloat16 is for matrix products and convolutions: spectra, codes and losses stay in single precision."""

from __future__ import annotations

import processes
import pytest
import tiny
import torch

from segue.train.fabric import alone
from segue.train.loop import generator


@pytest.mark.parametrize("kind", ["codec", "codec-balanced", "semantic", "semantic-taught", "semantic-cpc", "lm"])
def test_losses_are_near_those_of_single_precision(kind):
    found = {}
    for precision in ("float32", "bfloat16"):
        training, batches = processes.make(kind, alone(precision=precision), 1)
        training.prepare(batches)
        training.steps_done = 4  # the codec's codebooks are in use, and its discriminators
        found[precision] = [training.step(batches(k), generator(0, k, 0), 1e-3) for k in range(2)]
        found[precision].append(training.validate(batches(9), generator(0, 0, 1)))
    for low, full in zip(found["bfloat16"], found["float32"], strict=True):
        assert low.keys() == full.keys()
        assert low["loss"] == pytest.approx(full["loss"], rel=0.05) and low["loss"] != full["loss"]


def test_what_is_given_is_not_rounded():
    seen = []

    class Seen(torch.nn.Linear):
        def forward(self, wave):
            seen.append(wave)
            return super().forward(wave)

    wave, world = tiny.waves(1, 0.01), alone(precision="bfloat16")
    module = Seen(wave.shape[-1], 8)
    assert not world.wrap(module)(wave).equal(torch.nn.functional.linear(wave, module.weight, module.bias))
    assert seen[0].dtype == torch.float32 and seen[0].equal(wave) and not wave.equal(wave.bfloat16().float())
