"""Drawing a token from logits: temperature, top-k, top-p, and a random number that is an argument.

A draw inverts the cumulative distribution at a uniform number, so a row's token depends on its own number alone,
whatever else is in the batch. Shapes: logits (B, C), uniforms (B, 1) in [0, 1), choices (B,) int64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segue.errors import SegueError


@dataclass(frozen=True)
class Sampling:
    """How freely tokens are drawn.

    Attributes:
        temperature: divides the logits; 0 always takes the likeliest.
        top_k: draw among the k likeliest only; None for all.
        top_p: draw among the likeliest that together reach this probability; None for all.

    Raises:
        SegueError: on a temperature below 0, a top_k below 1, or a top_p outside (0, 1].

    Sources: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p).
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise SegueError(f"temperature {self.temperature}: use 0 (always the likeliest) or more, such as 0.8")
        if self.top_k is not None and self.top_k < 1:
            raise SegueError(f"top_k {self.top_k}: use 1 or more, or leave it out")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise SegueError(f"top_p {self.top_p}: use a probability above 0 and at most 1, or leave it out")


def rng_of(seed: int, name: str) -> torch.Generator:
    """A stage's own generator, so that the length of one stage does not change the draws of the next."""
    words = np.random.SeedSequence([seed, *name.encode()]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


def sample(logits: Tensor, sampling: Sampling, rng: torch.Generator) -> Tensor:
    """Draw a token a row (B,), all rows from one generator."""
    return choose(logits, sampling, torch.rand(logits.shape[0], 1, generator=rng, device=rng.device).to(logits.device))


def uniforms(rngs: Sequence[torch.Generator], count: int) -> Tensor:
    """Numbers (B, count) in [0, 1), row b from its own generator b."""
    return torch.stack([torch.rand(count, generator=rng, device=rng.device) for rng in rngs])


def choose(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """Draw a token a row (B,) at `uniform` (B, 1) of its cumulative distribution."""
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.float() / sampling.temperature
    order = None
    if sampling.top_k is not None or sampling.top_p is not None:
        count = logits.shape[-1]
        logits, order = logits.topk(count if sampling.top_k is None else min(sampling.top_k, count), dim=-1)
    probabilities = torch.softmax(logits, dim=-1)
    cumulative = probabilities.cumsum(dim=-1)
    total = cumulative[:, -1:]
    if sampling.top_p is not None:
        before = cumulative - probabilities
        total = torch.where(before < sampling.top_p * total, cumulative, 0).amax(dim=-1, keepdim=True)
    place = torch.searchsorted(cumulative, uniform * total, right=True).clamp_(max=logits.shape[-1] - 1)
    return (place if order is None else order.gather(-1, place)).squeeze(-1)
