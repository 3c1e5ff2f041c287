"""Training of one stage: a step of Muon and AdamW, or of AdamW alone, on the cross-entropy of the target's tokens.

A batch is a TokenBatch of this process's rows; losses are in nats a token, means over the tokens of the whole batch.
All randomness of a step comes from the generator given.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from segue.artifact import Part
from segue.errors import SegueError
from segue.lm.model import StageModel
from segue.lm.sequence import NOT_PREDICTED, START, TokenBatch
from segue.train import sharded
from segue.train.fabric import Precision, World, alone
from segue.train.optimiser import MovingAverage, OptimiserName, check_kept, optimisers, set_rate

__all__ = ["OptimiserName", "Precision", "StageTraining"]


class StageTraining:
    """The training of a stage's language model, for the loop in segue.train.loop.

    Args:
        model: the model to train; moved to the world's device.
        requires: `semantic` and `codec` -> fingerprint of the tokenizers that made the tokens.
        weight_decay: of every matrix.
        gradient_clip: largest gradient norm; 0 leaves gradients alone.
        ema_decay: of the averaged weights that are validated and exported; 0 keeps none.
        optimiser: `muon` steps the blocks' matrices by Muon and all else by AdamW; `adamw` everything by AdamW.
        accumulate: parts a batch is worked through in.
        world: where to train; None is one process on the CPU.

    Raises:
        SegueError: for Muon on parameters that are spread over processes.
    """

    unit = "tokens"

    def __init__(
        self,
        model: StageModel,
        requires: dict[str, str],
        weight_decay: float = 0.05,
        gradient_clip: float = 1.0,
        ema_decay: float = 0.0,
        optimiser: OptimiserName = "muon",
        accumulate: int = 1,
        world: World | None = None,
    ) -> None:
        self.world = world or alone()
        if self.world.sharded and optimiser == "muon":
            raise SegueError("strategy fsdp: Muon needs whole matrices; use ddp, or --set optimiser=adamw")
        self.model = model
        self._losses = self.world.wrap(_Losses(model))
        self.average = MovingAverage(model, ema_decay) if ema_decay > 0 else None
        self._requires = dict(requires)
        self._gradient_clip = gradient_clip
        self._accumulate = accumulate
        self._steps = 0
        inner = model.transformer.blocks.parameters()
        self.optimisers = optimisers(optimiser, model.parameters(), inner, weight_decay, (0.9, 0.95), self.world)

    def prepare(self, batches: Callable[[int], TokenBatch]) -> None:
        """Nothing needs preparing."""

    def amount(self, batch: TokenBatch) -> tuple[float, float]:
        """Tokens in a batch, and with padding."""
        openings = batch.tokens.shape[0]
        return float((batch.tokens != START).sum()) + openings, float(batch.tokens.numel())

    def step(self, batch: TokenBatch, rng: torch.Generator, learning_rate: float) -> dict[str, float]:
        """One optimiser step; returns `loss`, the gradient's norm and each codebook's loss."""
        self.model.train()
        self.model.zero_grad(set_to_none=True)
        dropout = self._dropout_rng(rng)
        predicted = self.world.sum((batch.classes != NOT_PREDICTED).sum()).clamp(min=1)
        pieces = _split(batch, self._accumulate)
        totals = []
        for index, piece in enumerate(pieces):
            with self.world.unsynced(self._losses, index + 1 < len(pieces)):
                sums, counts = self._losses(*_tensors(piece.to(self.world.device)), dropout)
                self.world.backward(sums.sum() * self.world.size / predicted.to(sums.device))
            totals.append((sums.detach(), counts))
        limit = self._gradient_clip if self._gradient_clip > 0 else float("inf")
        norm = sharded.whole(nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        for optimiser in self.optimisers:
            set_rate(optimiser, learning_rate)
            optimiser.step()
        self._steps += 1
        if self.average is not None:
            self.average.update()
        loss, *slots = self._means(totals).items()
        return dict([loss, ("gradient_norm", norm.item()), *slots])

    @torch.no_grad()
    def validate(self, batch: TokenBatch, rng: torch.Generator) -> dict[str, float]:
        """Loss of the weights that `export` would keep, without dropout."""
        with nullcontext() if self.average is None else self.average.in_use():
            pieces = _split(batch, self._accumulate)
            return self._means([self._losses(*_tensors(piece.to(self.world.device)), None) for piece in pieces])

    def state_dict(self) -> dict[str, Any]:
        """Weights, their average and what the optimisers keep of each."""
        average = {} if self.average is None else self.average.average
        kept = [optimiser.state_dict()["state"] for optimiser in self.optimisers]
        state = {"steps": self._steps, "model": self.model.state_dict(), "average": average, "optimisers": kept}
        return sharded.whole(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            SegueError: if it was trained with another choice of optimisers.
        """
        check_kept(state["optimisers"], self.optimisers)
        self._steps = state["steps"]
        sharded.load_module(self.model, state["model"])
        if self.average is not None:
            self.average.load_state_dict({"updates": self._steps, **state["average"]})
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            sharded.load_optimiser(optimiser, kept)

    def export(self, card: dict[str, Any]) -> Part:
        """The stage as an artifact, from the averaged weights where an average is kept."""
        weights = self.model.state_dict() if self.average is None else self.average.average
        with torch.device("meta"):
            kept = StageModel(self.model.stage, self.model.config)
        kept.load_state_dict(sharded.whole(weights), assign=True)
        return kept.to_part(self._requires, card)

    def _means(self, totals: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """`loss` a token and each codebook's, over parts and processes."""
        sums = self.world.sum(torch.stack([sums for sums, _ in totals]).sum(dim=0))
        counts = self.world.sum(torch.stack([counts for _, counts in totals]).sum(dim=0))
        loss = (sums.sum() / counts.sum().clamp(min=1)).item()
        means = (sums / counts.clamp(min=1)).tolist()
        slots = {f"loss_{slot}": mean for slot, mean in enumerate(means)} if len(means) > 1 else {}
        return {"loss": loss, **slots}

    def _dropout_rng(self, rng: torch.Generator) -> torch.Generator | None:
        """Where dropout is drawn from: other draws on every process, on its device."""
        device = self.world.device
        if self.model.config.dropout == 0 or (device.type == "cpu" and self.world.size == 1):
            return rng if device.type == "cpu" else None
        seed = int(torch.randint(2**62, (), generator=rng)) + self.world.rank
        return torch.Generator(device).manual_seed(seed)


class _Losses(nn.Module):
    """A model's losses as a forward pass, which is what processes share the gradients of."""

    def __init__(self, model: StageModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens: Tensor, positions: Tensor, slots: Tensor, classes: Tensor, rng: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        return self.model.slot_losses(TokenBatch(tokens, positions, slots, classes), rng)


def _tensors(batch: TokenBatch) -> tuple[Tensor, ...]:
    return batch.tokens, batch.positions, batch.slots, batch.classes


def _split(batch: TokenBatch, parts: int) -> list[TokenBatch]:
    return [TokenBatch(*piece) for piece in zip(*(tensor.chunk(parts) for tensor in _tensors(batch)), strict=True)]
