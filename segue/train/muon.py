"""Muon: momentum whose every step turns all directions of a matrix alike. For the inner matrices of a transformer.

Shapes: matrices (n, rows, columns), those of one shape stacked.

Source: Jordan et al. 2024, Muon (the quintic Newton-Schulz iteration and its coefficients); the scale that makes
AdamW's learning rate and weight decay fit: Liu et al. 2025, Muon is scalable for LLM training (arXiv 2502.16982, 2.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ADAMW_RMS = 0.2
"""Root mean square of a typical AdamW step over its learning rate."""


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum with decoupled weight decay.

    Args:
        weights: matrices only.
        weight_decay: as AdamW's.
        momentum: decay of the gradient's moving average.
        dtype: that steps are worked out in; they bear bfloat16.
    """

    def __init__(
        self, weights: Iterable[Tensor], weight_decay: float, momentum: float = 0.95, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(list(weights), {"lr": 0.0, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step along the gradients there are."""
        for group in self.param_groups:
            for alike in _by_shape(weight for weight in group["params"] if weight.grad is not None):
                self._step(alike, group)

    def _step(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        averages = [self.state[weight].setdefault("average", torch.zeros_like(weight)) for weight in weights]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        ahead = torch.stack(torch._foreach_lerp(gradients, averages, group["momentum"]))
        steps = orthogonalised(ahead, self.dtype) * (ADAMW_RMS * max(ahead.shape[1:]) ** 0.5)
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, list(steps.unbind()), alpha=-group["lr"])


def orthogonalised(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, rows, columns) -> the same singular vectors with all singular values near 1, worked out in `dtype`."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = (wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).to(dtype)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if matrices.shape[1] <= matrices.shape[2] else x.mT).to(matrices.dtype)


def _by_shape(weights: Iterable[Tensor]) -> list[list[Tensor]]:
    alike: dict[torch.Size, list[Tensor]] = {}
    for weight in weights:
        alike.setdefault(weight.shape, []).append(weight)
    return list(alike.values())
