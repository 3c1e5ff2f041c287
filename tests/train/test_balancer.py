"""The balancer: shares of the pull follow the weights, whatever the scale of a loss."""

from __future__ import annotations

import pytest
import torch

from segue.train.balancer import Balancer


def losses(made: torch.Tensor, scale: float) -> dict[str, torch.Tensor]:
    return {"first": scale * made[:, :10].square().sum(), "second": made[:, 10:].abs().sum()}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_pulls_have_the_shares_asked_for(scale):
    made = torch.randn(3, 20, generator=torch.Generator().manual_seed(0)).requires_grad_()
    pull = Balancer({"first": 3.0, "second": 1.0}).gradient(losses(made, scale), made)
    first, second = pull[:, :10].norm(dim=-1).mean(), pull[:, 10:].norm(dim=-1).mean()
    assert first == pytest.approx(0.75, rel=1e-4) and second == pytest.approx(0.25, rel=1e-4)


def test_a_loss_that_shrinks_pulls_less_than_its_share():
    balancer, made = Balancer({"first": 1.0, "second": 1.0}), torch.ones(1, 20).requires_grad_()
    for _ in range(20):
        balancer.gradient(losses(made, 1.0), made)
    pull = balancer.gradient(losses(made, 0.1), made)
    assert pull[:, :10].norm() < 0.15 < 0.4 < pull[:, 10:].norm()


def test_unknown_and_weightless_losses_pull_nothing_and_state_goes_on():
    made = torch.ones(1, 20).requires_grad_()
    one, other = Balancer({"first": 1.0, "second": 0.0}), Balancer({"first": 1.0, "second": 0.0})
    assert not one.gradient(losses(made, 1.0), made)[:, 10:].any()
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.gradient(losses(made, 5.0), made), other.gradient(losses(made, 5.0), made))
