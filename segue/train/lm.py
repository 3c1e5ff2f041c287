"""Training of one stage: a step of Muon and AdamW, or of AdamW alone, on the cross-entropy of the target's tokens.

A batch is a TokenBatch; losses are in nats a token. All randomness of a step comes from the generator given.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from segue.artifact import Part
from segue.lm.model import StageModel
from segue.lm.sequence import TokenBatch
from segue.train.muon import Muon
from segue.train.optimiser import adamw, set_rate

Precision = Literal["float32", "bfloat16"]
OptimiserName = Literal["muon", "adamw"]


class StageTraining:
    """The training of a stage's language model, for the loop in segue.train.loop.

    Args:
        model: the model to train; moved to `device`.
        requires: `semantic` and `codec` -> fingerprint of the tokenizers that made the tokens.
        weight_decay: of every matrix.
        gradient_clip: largest gradient norm; 0 leaves gradients alone.
        ema_decay: of the averaged weights that are validated and exported; 0 keeps none.
        device: where to train.
        precision: `bfloat16` runs the matrix products of training in bfloat16.
        optimiser: `muon` steps the blocks' matrices by Muon and all else by AdamW; `adamw` everything by AdamW.
    """

    def __init__(
        self,
        model: StageModel,
        requires: dict[str, str],
        weight_decay: float = 0.05,
        gradient_clip: float = 1.0,
        ema_decay: float = 0.0,
        device: torch.device | str = "cpu",
        precision: Precision = "float32",
        optimiser: OptimiserName = "muon",
    ) -> None:
        self.model = model.to(device)
        self.average = copy.deepcopy(self.model).requires_grad_(False) if ema_decay > 0 else None
        self._requires = dict(requires)
        self._gradient_clip = gradient_clip
        self._ema_decay = ema_decay
        self._device = torch.device(device)
        self._precision = precision
        self._steps = 0
        matrices = [weight for weight in model.transformer.blocks.parameters() if weight.ndim == 2]
        inner = {id(weight) for weight in matrices} if optimiser == "muon" else set()
        rest = [weight for weight in self.model.parameters() if id(weight) not in inner]
        self.optimisers: list[torch.optim.Optimizer] = [adamw(rest, weight_decay, betas=(0.9, 0.95))]
        if inner:
            self.optimisers.append(Muon(matrices, weight_decay))

    def prepare(self, batches: Callable[[int], TokenBatch]) -> None:
        """Nothing needs preparing."""

    def step(self, batch: TokenBatch, rng: torch.Generator, learning_rate: float) -> dict[str, float]:
        """One optimiser step; returns `loss`, the gradient's norm and each codebook's loss."""
        self.model.train()
        sums, counts = self._losses(self.model, batch, self._dropout_rng(rng))
        loss = sums.sum() / counts.sum().clamp(min=1)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        limit = self._gradient_clip if self._gradient_clip > 0 else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        for optimiser in self.optimisers:
            set_rate(optimiser, learning_rate)
            optimiser.step()
        self._steps += 1
        self._update_average()
        return {"loss": loss.item(), "gradient_norm": norm.item(), **_by_slot(sums, counts)}

    @torch.no_grad()
    def validate(self, batch: TokenBatch, rng: torch.Generator) -> dict[str, float]:
        """Loss of the weights that `export` would keep, without dropout."""
        sums, counts = self._losses(self._kept(), batch, None)
        return {"loss": (sums.sum() / counts.sum().clamp(min=1)).item(), **_by_slot(sums, counts)}

    def state_dict(self) -> dict[str, Any]:
        """Weights, their average and what the optimisers keep of each."""
        average = {} if self.average is None else self.average.state_dict()
        kept = [optimiser.state_dict()["state"] for optimiser in self.optimisers]
        return {"steps": self._steps, "model": self.model.state_dict(), "average": average, "optimisers": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._steps = state["steps"]
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            moments = {int(index): values for index, values in kept.items()}
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})

    def export(self, card: dict[str, Any]) -> Part:
        """The stage as an artifact, from the averaged weights where an average is kept."""
        return self._kept().to_part(self._requires, card)

    @torch.no_grad()
    def _update_average(self) -> None:
        """Take in the new weights; the first steps count for more, so that the start is soon forgotten."""
        if self.average is None:
            return
        share = 1 - min(self._ema_decay, self._steps / (self._steps + 10))
        for kept, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
            kept.lerp_(new, share)

    def _kept(self) -> StageModel:
        return self.model if self.average is None else self.average

    def _losses(self, model: StageModel, batch: TokenBatch, rng: torch.Generator | None) -> tuple[Tensor, Tensor]:
        low = self._precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16) if low else contextlib.nullcontext():
            return model.slot_losses(batch.to(self._device), rng)

    def _dropout_rng(self, rng: torch.Generator) -> torch.Generator | None:
        if self.model.config.dropout == 0 or rng.device.type == self._device.type:
            return rng
        seed = int(torch.randint(2**62, (), generator=rng, device=rng.device))
        return torch.Generator(self._device).manual_seed(seed)


def _by_slot(sums: Tensor, counts: Tensor) -> dict[str, float]:
    means = (sums.detach() / counts.clamp(min=1)).tolist()
    return {f"loss_{slot}": mean for slot, mean in enumerate(means)} if len(means) > 1 else {}
