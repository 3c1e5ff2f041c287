"""Speed, padding and arithmetic of steps: counted right, and without a trace in what is trained."""

from __future__ import annotations

import time

import kills
import pytest
import torch

from segue.train.fabric import alone
from segue.train.loop import generator
from segue.train.throughput import Throughput, matmul_gflops


class Product:
    """A step is one product (64, 32) x (32, 16), and its number goes up by one."""

    unit = "tokens"

    def __init__(self) -> None:
        self.world, self.steps = alone(), 0

    def amount(self, batch) -> tuple[float, float]:
        return 6.0, 8.0

    def step(self, batch, rng, learning_rate) -> dict[str, float]:
        self.steps += 1
        torch.ones(64, 32) @ torch.ones(32, 16)
        time.sleep(0.01)
        return {"loss": 0.0}

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state) -> None:
        self.steps = state["steps"]


def test_figures_are_of_the_last_steps():
    training = Product()
    speed = Throughput(training)
    assert speed.figures() == {} and not speed.uncounted
    for _ in range(3):
        with speed.timed():
            losses = training.step(None, None, 0.0)
        speed.add(losses, 0.01, *training.amount(None))
    assert speed.uncounted and "gflop_per_second" not in speed.figures()
    speed.count(None, None, 0.0)
    assert training.steps == 3 and not speed.uncounted
    found = speed.figures()
    assert found["padding"] == pytest.approx(0.25) and 0.3 < found["waiting"] <= 0.51
    assert found["tokens_per_second"] == pytest.approx(6 / found["step_seconds"])
    assert found["gflop_per_second"] == pytest.approx(2 * 64 * 32 * 16 / found["step_seconds"] / 1e9)
    assert found["peak_share"] == pytest.approx(
        found["gflop_per_second"] / matmul_gflops(torch.device("cpu"), "float32", 1)
    )


def test_other_losses_are_counted_anew():
    speed = Throughput(Product())
    speed.add({"loss": 1.0}, 0.0, 6.0, 8.0)
    speed.count(None, None, 0.0)
    assert not speed.uncounted
    speed.add({"loss": 1.0, "adversarial": 1.0}, 0.0, 6.0, 8.0)
    assert speed.uncounted


@pytest.mark.parametrize("kind", kills.KINDS)
def test_counting_leaves_no_trace(kind):
    """Counting is undone: it goes through other kernels, whose last bits differ."""

    def after(counted: bool) -> dict[str, torch.Tensor]:
        training, batches = kills.make(kind)
        training.prepare(batches)
        speed = Throughput(training)
        for step in range(3):
            if counted and step > 0:
                speed.count(batches(step), generator(0, step, 0), 1e-3)
                assert speed._flop > 0
            speed.add(training.step(batches(step), generator(0, step, 0), 1e-3), 0.0, 1.0, 1.0)
        return kills.processes.leaves(training.state_dict())

    plain, counted = after(False), after(True)
    assert plain.keys() == counted.keys()
    for name, value in plain.items():
        assert torch.equal(value, counted[name]) if torch.is_tensor(value) else value == counted[name], name


def test_the_arithmetic_of_a_transformer_is_six_times_its_weights_and_attention():
    training, batches = kills.processes.make("lm-adamw", alone(), 1)
    speed, batch = Throughput(training), batches(0)
    speed.add(training.step(batch, generator(0, 0, 0), 1e-3), 0.0, 1.0, 1.0)
    speed.count(batch, generator(0, 0, 0), 1e-3)
    transformer = training.model.transformer
    blocks = sum(weight.numel() for weight in transformer.blocks.parameters() if weight.ndim == 2)
    weights = sum(weight.numel() for weight in transformer.parameters() if weight.ndim == 2)
    attention = 14 * batch.tokens.shape[1] * training.model.config.width
    assert 6 * blocks < speed._flop < 6 * weights + attention
