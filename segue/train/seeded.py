"""Torch's own draws, which take no generator as an argument, from one all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(rng: torch.Generator, rank: int = 0) -> Iterator[None]:
    """Within, first weights and dropout come from `rng`, others on every process; they leave no trace outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=rng)) + rank)
        yield
