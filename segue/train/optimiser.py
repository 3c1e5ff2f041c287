"""AdamW with weight decay on matrices only, Muon beside it, and the moving average of weights that is exported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segue.errors import SegueError
from segue.train import sharded
from segue.train.fabric import World
from segue.train.muon import Muon

OptimiserName = Literal["muon", "adamw"]


def adamw(parameters: Iterable[Tensor], weight_decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW over weights; biases, gains and other vectors don't decay. The loop sets the rate."""
    weights = [weight for weight in parameters if weight.requires_grad]
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=betas, foreach=True)


def optimisers(
    name: OptimiserName,
    every: Iterable[Tensor],
    inner: Iterable[Tensor],
    weight_decay: float,
    betas: tuple[float, float],
    world: World,
) -> list[torch.optim.Optimizer]:
    """AdamW over every weight; or over all but the matrices of `inner`, which Muon has, in the world's precision."""
    matrices = [weight for weight in inner if weight.ndim == 2 and weight.requires_grad] if name == "muon" else []
    taken = {id(weight) for weight in matrices}
    rest = adamw((weight for weight in every if id(weight) not in taken), weight_decay, betas)
    if not matrices:
        return [rest]
    dtype = torch.bfloat16 if world.hardware.precision == "bfloat16" else torch.float32
    return [rest, Muon(matrices, weight_decay, dtype=dtype)]


def check_kept(kept: Sequence[Any], own: Sequence[torch.optim.Optimizer]) -> None:
    """Refuse states of another choice of optimisers.

    Raises:
        SegueError: if what was kept is not of as many optimisers as there are.
    """
    if len(kept) != len(own):
        other = "adamw" if len(kept) == 1 else "muon"
        raise SegueError(f"this run was started with optimiser={other}; give --set optimiser={other} to go on")


def set_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set every group's learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate


class MovingAverage:
    """Exponential moving average of a module's floating state; decay 0 follows the weights themselves."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay, self.updates = module, decay, 0
        self.average = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the module's weights as they are now."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10))
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def state_dict(self) -> dict[str, Tensor | int]:
        return {"updates": self.updates, **self.average}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        self.updates = int(state["updates"])
        for name, value in self.average.items():
            sharded.put(value, torch.as_tensor(state[name]))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within, the module has the average for its weights."""
        own = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        self.module.load_state_dict(self.average)
        try:
            yield
        finally:
            self.module.load_state_dict(own)
