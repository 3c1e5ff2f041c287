"""The mask schedule of the parallel acoustic decoder, as pure functions: what is asked in training, what is fixed when.

Training asks one level (codebook) of every row. From a random instant on, that level is masked in part and all levels
above it entirely; the levels below are known. Decoding fills a level in a few rounds, each of which keeps the tokens
that the model is surest of and masks the others again.

Shapes: codes (B, Q, T), asked (B, T) bool, levels (B,). Rates follow the cosine of how far one has come.

Source: Borsos et al. 2023, SoundStorm (arXiv 2305.09636), sections 3.2 and 3.3; Chang et al. 2022, MaskGIT (arXiv
2202.04200), section 3.2, for the cosine schedule and confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segue.errors import SegueError


@dataclass(frozen=True)
class MaskDraws:
    """The random numbers that decide what is asked, each in [0, 1).

    Attributes:
        levels: (B,) which level is asked, as int64.
        prompts: (B,) how long the prompt is.
        rates: (B,) how much of the rest is masked.
        scores: (B, T) which frames those are.
    """

    levels: Tensor
    prompts: Tensor
    rates: Tensor
    scores: Tensor

    def rows(self, rows: slice) -> MaskDraws:
        """Some of the rows."""
        return MaskDraws(self.levels[rows], self.prompts[rows], self.rates[rows], self.scores[rows])


def mask_rate(progress: Tensor) -> Tensor:
    """Share that is masked: the cosine from 1 at progress 0 to 0 at progress 1."""
    return torch.cos(progress * (math.pi / 2))


def masked_after(total: int, rounds: int) -> list[int]:
    """How many of `total` tokens are still masked after each round.

    At least one is fixed a round, and none is left after the last; fewer tokens than rounds take fewer rounds.

    Raises:
        SegueError: if there are no rounds.
    """
    if rounds < 1:
        raise SegueError(f"iterations {rounds}: at least 1 a level")
    left, counts = total, []
    for done in range(1, rounds + 1):
        if left == 0:
            break
        wanted = 0 if done == rounds else math.floor(total * math.cos(math.pi / 2 * done / rounds))
        left = min(left - 1, wanted)
        counts.append(left)
    return counts


def iterations_a_level(iterations: Sequence[int], levels: int) -> list[int]:
    """Rounds of each of so many levels, where the last number given counts for all further levels.

    Raises:
        SegueError: if there is none, one is below 1, or there are more than levels.
    """
    if not iterations or min(iterations) < 1 or len(iterations) > levels:
        given = ", ".join(map(str, iterations)) or "none"
        raise SegueError(f"iterations {given}: give 1 to {levels} numbers from 1 on, the last for all further levels")
    return [*iterations, *[iterations[-1]] * (levels - len(iterations))]


def draw_masks(rows: int, frames: int, levels: int, skew: float, rng: torch.Generator) -> MaskDraws:
    """Random numbers for a batch, its levels spread evenly over their distribution.

    Args:
        rows: B.
        frames: T, the most that a row can have.
        levels: Q.
        skew: level q (from 0) is asked in proportion to (q + 1) ** -skew; 0 asks all alike, as the paper does.
        rng: source, on the CPU.
    """
    cumulative = (torch.arange(1, levels + 1, dtype=torch.float64) ** -skew).cumsum(0)
    places = (torch.arange(rows, dtype=torch.float64) + torch.rand(1, generator=rng, dtype=torch.float64)) / rows
    spread = torch.searchsorted(cumulative / cumulative[-1], places, right=True).clamp(max=levels - 1)
    return MaskDraws(
        spread[torch.randperm(rows, generator=rng)],
        torch.rand(rows, generator=rng),
        torch.rand(rows, generator=rng),
        torch.rand(rows, frames, generator=rng),
    )


def asked_frames(draws: MaskDraws, lengths: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Which frames of a batch are the prompt, and which are asked for at the row's level.

    Args:
        draws: for the same rows, with at least `frames` scores a row.
        lengths: (B,) real frames of each row, at least 1.
        frames: T.

    Returns:
        prompt (B, T) bool and asked (B, T) bool: at least one real frame a row, none of the prompt's.
    """
    places = torch.arange(frames)
    first = (draws.prompts * lengths).long().clamp(max=lengths - 1)
    prompt = places < first[:, None]
    free = ~prompt & (places < lengths[:, None])
    scores = draws.scores[:, :frames].masked_fill(~free, math.inf)
    asked = scores < mask_rate(draws.rates)[:, None]
    asked.scatter_(1, scores.argmin(dim=1, keepdim=True), True)
    return prompt, asked


def hidden_codes(prompt: Tensor, asked: Tensor, levels: Tensor, num_levels: int) -> Tensor:
    """Which codes (B, Q, T) the model does not see: the asked ones of its level, and all above outside the prompt."""
    above = torch.arange(num_levels)[None, :, None] - levels[:, None, None]
    return ((above == 0) & asked[:, None]) | ((above > 0) & ~prompt[:, None])


def surest(confidence: Tensor, masked: Tensor, keep: int) -> Tensor:
    """The `keep` masked frames (B, T) of each row that have the greatest confidence (B, T)."""
    order = confidence.masked_fill(~masked, -math.inf).argsort(dim=1, descending=True, stable=True)
    chosen = torch.zeros_like(masked)
    return chosen.scatter_(1, order[:, :keep], True)
