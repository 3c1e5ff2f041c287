"""How fast a training goes: tokens or sound a second, GFLOP/s, and what share that is of what the device can do.

The arithmetic of a step is counted on one step of each kind (with discriminators, without): multiplications and
additions of matrix products, convolutions and attention, recomputation included and causal attention in full. What the
device can do is the speed of one large matrix product, measured here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch.utils import flop_counter

from segue.train.fabric import Precision, World

WINDOW = 20
"""Steps that figures are taken over."""


class Steps(Protocol):
    """What of a training matters here; see segue.train.loop."""

    unit: str
    world: World

    def amount(self, batch: Any) -> tuple[float, float]: ...

    def step(self, batch: Any, rng: torch.Generator, learning_rate: float) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class _Step:
    seconds: float
    waited: float
    amount: float
    padded: float


class Throughput:
    """Times the steps of one training.

    Args:
        training: whose steps.
    """

    def __init__(self, training: Steps) -> None:
        self._training = training
        self._steps: deque[_Step] = deque(maxlen=WINDOW)
        self._kind: frozenset[str] | None = None
        self._counted: frozenset[str] | None = None
        self._flop = 0.0
        self._seconds = 0.0

    @property
    def uncounted(self) -> bool:
        """Whether the arithmetic of the steps as they are now is not known yet."""
        return self._kind != self._counted

    def count(self, batch: Any, rng: torch.Generator, learning_rate: float) -> None:
        """Count the arithmetic of one step and undo it, for counting changes the last bits of what is computed."""
        kept = _copied(self._training.state_dict())
        with flop_counter.FlopCounterMode(display=False, custom_mapping=cpu_attention()) as counter:
            self._training.step(batch, rng, learning_rate)
        self._training.load_state_dict(kept)
        self._counted = self._kind
        self._flop = counter.get_total_flops() / self._training.amount(batch)[1]

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around a step."""
        began = time.perf_counter()
        yield
        self._seconds = time.perf_counter() - began

    def add(self, losses: dict[str, float], waited: float, amount: float, padded: float) -> None:
        """Take in what was timed.

        Args:
            losses: of the step; other names than before make it a step of another kind.
            waited: seconds spent waiting for its batch.
            amount: tokens or seconds of sound in it, over all processes.
            padded: with padding.
        """
        self._kind = frozenset(losses)
        self._steps.append(_Step(self._seconds, waited, amount, padded))

    def figures(self) -> dict[str, float]:
        """The last steps' figures.

        Returns:
            `tokens_per_second` or `audio_seconds_per_second`; `padding`, share of the batch that is none of it;
            `waiting`, share of the time spent on waiting for batches; `gflop_per_second` of one device and
            `peak_share`, what that is of the device's best (often called MFU). Empty until there are any.
        """
        if not self._steps:
            return {}
        waited = sum(step.waited for step in self._steps)
        seconds = sum(step.seconds for step in self._steps) + waited
        amount = sum(step.amount for step in self._steps)
        padded = sum(step.padded for step in self._steps)
        world = self._training.world
        found = {
            f"{self._training.unit}_per_second": amount / seconds,
            "step_seconds": seconds / len(self._steps),
            "padding": 1 - amount / padded,
            "waiting": waited / seconds,
        }
        if self._flop > 0:
            speed = self._flop * padded / world.size / seconds / 1e9
            best = matmul_gflops(world.device, world.hardware.precision, torch.get_num_threads())
            found |= {"gflop_per_second": speed, "peak_share": speed / best}
        return found


@cache
def matmul_gflops(device: torch.device, precision: Precision, threads: int) -> float:
    """GFLOP/s of a large matrix product, the best of some, on so many threads of a CPU or on another device."""
    size = 768 if device.type == "cpu" else 8192
    matrix = torch.ones(size, size, device=device, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32)
    best = float("inf")
    until = time.perf_counter() + 0.2
    while time.perf_counter() < until or best == float("inf"):
        began = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # the number makes a GPU finish
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e9


def _copied(value: Any) -> Any:
    """A nested state of its own, on the CPU."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value


def cpu_attention() -> dict[Any, Any]:
    """Torch's table lacks the CPU's attention."""

    def forward(query: Any, key: Any, value: Any, *rest: Any, **more: Any) -> int:
        return flop_counter.sdpa_flop_count(query, key, value)

    def backward(gradient: Any, query: Any, key: Any, value: Any, *rest: Any, **more: Any) -> int:
        return flop_counter.sdpa_backward_flop_count(gradient, query, key, value)

    names = "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward"
    return {getattr(torch.ops.aten, name): count for name, count in zip(names, (forward, backward), strict=True)}
