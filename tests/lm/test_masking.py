"""The mask schedule of the parallel decoder, as properties."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from segue.errors import SegueError
from segue.lm.masking import (
    MaskDraws,
    asked_frames,
    draw_masks,
    hidden_codes,
    iterations_a_level,
    mask_rate,
    masked_after,
    surest,
)


@pytest.mark.parametrize("total", [1, 2, 3, 7, 50, 101, 1500])
@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 8, 16, 32, 200])
def test_every_round_fixes_some_and_the_last_one_all_that_are_left(total, rounds):
    left = masked_after(total, rounds)
    fixed = [before - after for before, after in zip([total, *left], left, strict=False)]
    assert left[-1] == 0 and sum(fixed) == total and min(fixed) >= 1
    assert len(left) <= min(rounds, total) and (rounds < total or len(left) == total)
    if total >= 10 * rounds > 10:
        assert all(later >= earlier - 1 for earlier, later in pairwise(fixed))
        assert all(abs(n / total - math.cos(math.pi / 2 * (i + 1) / rounds)) < 0.1 for i, n in enumerate(left))


def test_nothing_to_fill_takes_no_round():
    assert masked_after(0, 16) == []


def test_the_rate_falls_from_one_to_none():
    rates = mask_rate(torch.linspace(0, 1, 101))
    assert rates[0] == 1 and abs(rates[-1]) < 1e-6 and (rates.diff() < 0).all()


def test_iterations_are_spread_over_the_levels():
    assert iterations_a_level((16, 1), 5) == [16, 1, 1, 1, 1]
    assert iterations_a_level((4,), 3) == [4, 4, 4]
    assert iterations_a_level((4, 3, 2), 3) == [4, 3, 2]
    for wrong in ((), (0,), (16, 0), (1, 1, 1, 1)):
        with pytest.raises(SegueError, match="iterations"):
            iterations_a_level(wrong, 3)
    with pytest.raises(SegueError, match="iterations 0"):
        masked_after(5, 0)


def batch(rows: int = 64, frames: int = 40, levels: int = 5, skew: float = 0.0, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, frames + 1, (rows,), generator=rng)
    draws = draw_masks(rows, frames + 7, levels, skew, rng)
    return draws, lengths, *asked_frames(draws, lengths, frames)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_asked(seed):
    """At least one real frame a row, none of the prompt's; the prompt comes first and never is all there is."""
    draws, lengths, prompt, asked = batch(seed=seed)
    real = torch.arange(40) < lengths[:, None]
    assert asked.any(dim=1).all() and not (asked & prompt).any() and not (asked & ~real).any()
    assert (prompt.int().diff(dim=1) <= 0).all() and (prompt.sum(dim=1) < lengths).all()
    hidden = hidden_codes(prompt, asked, draws.levels, 5)
    for row, level in enumerate(draws.levels.tolist()):
        assert not hidden[row, :level].any()
        assert torch.equal(hidden[row, level], asked[row])
        assert (hidden[row, level + 1 :] == ~prompt[row]).all()


def test_the_share_asked_follows_the_cosine():
    _, lengths, prompt, asked = batch(rows=4000)
    free = lengths - prompt.sum(dim=1)
    long = free > 20
    shares = (asked.sum(dim=1) / free)[long]
    assert abs(shares.mean() - 2 / math.pi) < 0.02  # the mean of the cosine


def test_levels_are_spread_as_asked_for():
    assert torch.bincount(batch(rows=60)[0].levels).tolist() == [12] * 5
    counts = torch.bincount(batch(rows=4000, skew=1.0)[0].levels).float()
    wanted = 1 / torch.arange(1, 6)
    assert torch.allclose(counts / 4000, wanted / wanted.sum(), atol=1e-3)
    levels = batch(rows=60)[0].levels
    assert levels.tolist() != sorted(levels.tolist())  # else long rows would be asked other levels than short ones


def test_rows_of_a_draw_are_those_of_the_whole():
    draws, lengths, prompt, asked = batch()
    own = draws.rows(slice(16, 32))
    again = asked_frames(own, lengths[16:32], 40)
    assert torch.equal(again[0], prompt[16:32]) and torch.equal(again[1], asked[16:32])
    assert torch.equal(own.levels, draws.levels[16:32])


def test_the_prompt_draw_reaches_from_nothing_to_all_but_one_frame():
    none = MaskDraws(torch.zeros(2).long(), torch.tensor([0.0, 1 - 2**-24]), torch.zeros(2), torch.rand(2, 8))
    prompt, asked = asked_frames(none, torch.tensor([8, 8]), 8)
    assert prompt.sum(dim=1).tolist() == [0, 7] and asked.sum(dim=1).tolist() == [8, 1]


def test_the_surest_are_chosen_among_the_masked():
    confidence = torch.tensor([[0.9, 0.1, 0.5, 0.7], [0.2, 0.2, 0.2, 0.2]])
    masked = torch.tensor([[False, True, True, True], [True, True, True, True]])
    assert surest(confidence, masked, 2).tolist() == [[False, False, True, True], [True, True, False, False]]
