"""Draws follow the distribution they are asked for, and nothing else."""

from __future__ import annotations

import pytest
import torch

from segue.errors import SegueError
from segue.generate.sampling import Sampling, choose, sample, uniforms

LOGITS = torch.tensor([0.0, 2.0, 1.0, -1.0, 0.5])
DRAWS = 20000


def frequencies(sampling: Sampling) -> torch.Tensor:
    rng = torch.Generator().manual_seed(3)
    return torch.bincount(sample(LOGITS.expand(DRAWS, -1), sampling, rng), minlength=5) / DRAWS


def fits(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Chi-square at p = 0.001 with at most 4 degrees of freedom; what can't come must not have come."""
    possible = expected > 0
    if found[~possible].any():
        return False
    return bool((DRAWS * (found - expected)[possible] ** 2 / expected[possible]).sum() < 18.47)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature(temperature):
    expected = torch.softmax(LOGITS / temperature, dim=0)
    assert fits(frequencies(Sampling(temperature)), expected)
    assert not fits(frequencies(Sampling(temperature * 1.2)), expected)


def test_top_k():
    kept = torch.where(torch.tensor([False, True, True, False, True]), LOGITS, -torch.inf)
    assert fits(frequencies(Sampling(1.0, top_k=3)), torch.softmax(kept, dim=0))
    assert fits(frequencies(Sampling(1.0, top_k=99)), torch.softmax(LOGITS, dim=0))


def test_top_p():
    # Sorted probabilities: 0.563, 0.207, 0.126, 0.076, 0.028.
    kept = torch.where(torch.tensor([False, True, True, False, False]), LOGITS, -torch.inf)
    assert fits(frequencies(Sampling(1.0, top_p=0.7)), torch.softmax(kept, dim=0))
    assert fits(frequencies(Sampling(1.0, top_p=1.0)), torch.softmax(LOGITS, dim=0))
    assert fits(frequencies(Sampling(1.0, top_p=1e-6)), torch.tensor([0, 1.0, 0, 0, 0]))
    # Among the two likeliest, 0.731 and 0.269, the first reaches 0.7 alone.
    assert fits(frequencies(Sampling(1.0, top_k=2, top_p=0.7)), torch.tensor([0, 1.0, 0, 0, 0]))


def test_nought_is_the_likeliest_and_one_is_never_overrun():
    assert choose(LOGITS[None], Sampling(0), torch.tensor([[0.99]])).tolist() == [1]
    for sampling in (Sampling(1.0), Sampling(1.0, top_k=2), Sampling(1.0, top_p=0.9)):
        assert 0 <= int(choose(LOGITS[None], sampling, torch.tensor([[0.9999999]]))) < 5


def test_a_row_has_its_own_numbers():
    both = uniforms([torch.Generator().manual_seed(s) for s in (4, 5)], 7)
    assert torch.equal(both[1:], uniforms([torch.Generator().manual_seed(5)], 7))


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(SegueError, match=next(iter(wrong))):
        Sampling(**wrong)
