"""Loss balancing: each loss pulls at the output in proportion to its weight, whatever its own scale.

made (b, N), the output, this process's rows of B; each loss a scalar of it, a mean over its rows.

Source: EnCodec (arXiv 2210.13438, 3.4).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

DECAY = 0.999


class Balancer:
    """Running norms of each loss's gradient, and the mix they make.

    Args:
        weights: share of each loss in the mix, by name.
        mean: the norm of the whole batch's gradient, a row, from that of the own rows.
    """

    def __init__(self, weights: dict[str, float], mean: Callable[[Tensor], Tensor] = lambda value: value) -> None:
        self._mean = mean
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        self._norms: dict[str, Tensor] = {}
        self._seen: dict[str, int] = {}

    def gradient(self, losses: dict[str, Tensor], made: Tensor) -> Tensor:
        """The gradient at the output, of norm 1 a row where every loss has its usual size.

        Args:
            losses: by name; those of weight 0 are left out.
            made: (b, N) what they were computed from; its graph is kept.

        Returns:
            (b, N), for `made.backward(gradient)`.
        """
        known = {name: loss for name, loss in losses.items() if name in self.weights}
        total = sum(self.weights[name] for name in known)
        mixed = torch.zeros_like(made)
        for name, loss in known.items():
            (pull,) = torch.autograd.grad(loss, made, retain_graph=True)
            mixed += pull * (self.weights[name] / total / self._norm(name, pull))
        return mixed

    def _norm(self, name: str, pull: Tensor) -> Tensor:
        now = self._mean(pull.norm(dim=-1).mean())
        seen = self._seen[name] = self._seen.get(name, 0) + 1
        share = max(1 - DECAY, 1 / seen)
        self._norms[name] = self._norms[name].lerp(now, share) if seen > 1 else now
        return self._norms[name].clamp(min=1e-12)

    def state_dict(self) -> dict[str, dict[str, Tensor] | dict[str, int]]:
        """The running norms."""
        return {"norms": dict(self._norms), "seen": dict(self._seen)}

    def load_state_dict(self, state: dict[str, dict]) -> None:
        """Go on from `state_dict`."""
        self._norms, self._seen = dict(state["norms"]), {name: int(count) for name, count in state["seen"].items()}
