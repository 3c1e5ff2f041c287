"""State that is spread over processes, as whole tensors and back. What is not spread passes through unchanged.

Every process must call these together, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(value: Any) -> Any:
    """A nested state with every tensor whole; those that were spread are on the CPU."""
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole(item) for item in value]
    return value


@torch.no_grad()
def put(into: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into one that may be spread."""
    into.copy_(spread_like(into, value))


def spread_like(other: Tensor, value: Tensor) -> Tensor:
    """A whole tensor, spread as another of its shape is."""
    if isinstance(other, DTensor) and other.shape == value.shape:
        return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)
    return value


def load_module(module: nn.Module, state: dict[str, Tensor]) -> None:
    """`module.load_state_dict` from whole tensors."""
    own = module.state_dict()
    module.load_state_dict({name: spread_like(own[name], value) for name, value in state.items()})


def load_optimiser(optimiser: torch.optim.Optimizer, state: dict[Any, Any]) -> None:
    """Put back what an optimiser kept of each parameter, by its number, from whole tensors."""
    parameters = list(_parameters(optimiser))
    kept = {
        int(index): {
            name: spread_like(parameters[int(index)], value) if isinstance(value, Tensor) else value
            for name, value in of.items()
        }
        for index, of in state.items()
    }
    optimiser.load_state_dict({**optimiser.state_dict(), "state": kept})


def _parameters(optimiser: torch.optim.Optimizer) -> Iterable[Tensor]:
    for group in optimiser.param_groups:
        yield from group["params"]
