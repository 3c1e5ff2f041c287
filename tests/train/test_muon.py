"""Muon: what its steps look like, and that it minds its own matrices."""

from __future__ import annotations

import pytest
import torch

from segue.train.muon import Muon, orthogonalised


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 16, 16)])
def test_singular_values_come_near_one_and_vectors_stay(shape):
    matrices = torch.randn(shape, generator=rng())
    result = orthogonalised(matrices)
    assert result.shape == shape
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.5 and values.max() < 1.3
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    core = left.mT @ result @ right.mT
    assert torch.allclose(core, torch.diag_embed(core.diagonal(dim1=1, dim2=2)), atol=1e-3)


def test_in_bfloat16_the_directions_are_the_same():
    matrices = torch.randn(2, 8, 20, generator=rng())
    exact, rounded = orthogonalised(matrices), orthogonalised(matrices, torch.bfloat16)
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    assert torch.cosine_similarity(exact.flatten(1), rounded.flatten(1)).min() > 0.998


def test_the_scale_of_a_gradient_does_not_matter():
    matrices = torch.randn(2, 6, 9, generator=rng())
    assert torch.allclose(orthogonalised(matrices), orthogonalised(1e4 * matrices), atol=1e-4)
    assert torch.equal(orthogonalised(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))


def test_a_stack_steps_as_each_matrix_alone():
    weights = [torch.randn(6, 9, generator=rng(seed)).requires_grad_() for seed in range(3)]
    alone = [weight.detach().clone().requires_grad_() for weight in weights]
    together, apart = Muon(weights, 0.1), [Muon([weight], 0.1) for weight in alone]
    for step in range(3):
        for weight, other in zip(weights, alone, strict=True):
            weight.grad = torch.randn(6, 9, generator=rng(step))
            other.grad = weight.grad.clone()
        for optimiser in (together, *apart):
            optimiser.param_groups[0]["lr"] = 0.01
            optimiser.step()
    for weight, other in zip(weights, alone, strict=True):
        assert torch.allclose(weight, other, atol=1e-5)


def test_a_weight_without_gradient_stays_and_decay_shrinks():
    moved, still = torch.ones(4, 4).requires_grad_(), torch.ones(4, 4).requires_grad_()
    optimiser = Muon([moved, still], weight_decay=0.5)
    optimiser.param_groups[0]["lr"] = 0.1
    moved.grad = torch.zeros(4, 4)
    optimiser.step()
    assert torch.equal(still, torch.ones(4, 4))
    assert torch.allclose(moved, torch.full((4, 4), 0.95))


def test_it_solves_what_it_can_solve():
    target = torch.randn(8, 12, generator=rng(1))
    weight = torch.zeros(8, 12).requires_grad_()
    optimiser = Muon([weight], 0.0)
    for step in range(200):
        optimiser.zero_grad()
        (weight - target).square().sum().backward()
        optimiser.param_groups[0]["lr"] = 0.3 * (1 - step / 200)
        optimiser.step()
    assert (weight - target).abs().max() < 0.05
