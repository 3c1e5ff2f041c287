"""Training of the parallel acoustic decoder: cross-entropy of masked codes, one level a row (segue.lm.masking).

A batch is a FrameBatch of this process's rows; losses are in nats a masked token, means over the whole batch. What is
masked is drawn for all rows of the global batch, so it does not depend on how many processes share them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segue.artifact import Part
from segue.lm.masking import MaskDraws, asked_frames, draw_masks, hidden_codes
from segue.lm.parallel import FrameBatch, ParallelModel
from segue.train import sharded
from segue.train.fabric import World, alone
from segue.train.optimiser import MovingAverage, adamw, set_rate
from segue.train.seeded import seeded


class Questions(NamedTuple):
    """What a batch asks: the arguments of `ParallelModel.slot_losses`."""

    semantic: Tensor
    seen: Tensor
    answers: Tensor
    asked: Tensor
    levels: Tensor
    valid: Tensor


class ParallelTraining:
    """The training of a parallel decoder, for the loop in segue.train.loop.

    Args:
        model: the model to train; moved to the world's device.
        requires: `semantic` and `codec` -> fingerprint of the tokenizers that made the tokens.
        weight_decay: of every matrix.
        gradient_clip: largest gradient norm; 0 leaves gradients alone.
        ema_decay: of the averaged weights that are validated and exported; 0 keeps none.
        level_skew: level q (from 0) is asked in proportion to (q + 1) ** -skew; 0 asks all alike, as the paper does.
        accumulate: parts a batch is worked through in.
        world: where to train; None is one process on the CPU.
    """

    unit = "frames"

    def __init__(
        self,
        model: ParallelModel,
        requires: dict[str, str],
        weight_decay: float = 0.01,
        gradient_clip: float = 1.0,
        ema_decay: float = 0.0,
        level_skew: float = 0.0,
        accumulate: int = 1,
        world: World | None = None,
    ) -> None:
        self.world = world or alone()
        self.model = model
        self._losses = self.world.wrap(_Losses(model))
        self.average = MovingAverage(model, ema_decay) if ema_decay > 0 else None
        self._requires, self._gradient_clip = dict(requires), gradient_clip
        self._level_skew, self._accumulate = level_skew, accumulate
        self._steps = 0
        self.optimiser = adamw(model.parameters(), weight_decay, betas=(0.9, 0.95))

    def prepare(self, batches: Callable[[int], FrameBatch]) -> None:
        """Nothing needs preparing."""

    def amount(self, batch: FrameBatch) -> tuple[float, float]:
        """Codec frames in a batch, and with padding."""
        return float(batch.lengths.sum()), float(batch.codes.shape[0] * batch.codes.shape[2])

    def step(self, batch: FrameBatch, rng: torch.Generator, learning_rate: float) -> dict[str, float]:
        """One optimiser step; returns `loss` and the gradient's norm."""
        self.model.train()
        self.model.zero_grad(set_to_none=True)
        stage = self.model.stage
        draws = draw_masks(*self._sizes(batch), stage.target.num_codebooks, self._level_skew, rng)
        questions = self._questions(batch, draws)
        wanted = self.world.sum(questions.asked.sum())
        pieces, totals = _split(questions, self._accumulate), []
        with seeded(rng, self.world.rank):
            for index, piece in enumerate(pieces):
                with self.world.unsynced(self._losses, index + 1 < len(pieces)):
                    sums, counts = self._losses(*self._placed(piece))
                    self.world.backward(sums.sum() * self.world.size / wanted.to(sums.device))
                totals.append((sums.detach(), counts))
        limit = self._gradient_clip if self._gradient_clip > 0 else float("inf")
        norm = sharded.whole(nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        set_rate(self.optimiser, learning_rate)
        self.optimiser.step()
        self._steps += 1
        if self.average is not None:
            self.average.update()
        return {"loss": self._means(totals)["loss"], "gradient_norm": norm.item()}

    @torch.no_grad()
    def validate(self, batch: FrameBatch, rng: torch.Generator) -> dict[str, float]:
        """Loss of the weights that `export` would keep, and of each level: every one is asked, all equally often."""
        self.model.eval()
        levels = self.model.stage.target.num_codebooks
        rows, frames = self._sizes(batch)
        totals = []
        with nullcontext() if self.average is None else self.average.in_use():
            for first in range(0, max(rows, levels), rows):
                drawn = draw_masks(rows, frames, levels, 0.0, rng)
                asked = (torch.arange(rows) + first) % levels
                questions = self._questions(batch, MaskDraws(asked, drawn.prompts, drawn.rates, drawn.scores))
                totals += [self._losses(*self._placed(piece)) for piece in _split(questions, self._accumulate)]
        return self._means(totals)

    def state_dict(self) -> dict[str, Any]:
        """Weights, their average and what the optimiser keeps of each."""
        average = {} if self.average is None else self.average.average
        kept = self.optimiser.state_dict()["state"]
        state = {"steps": self._steps, "model": self.model.state_dict(), "average": average, "optimisers": [kept]}
        return sharded.whole(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._steps = state["steps"]
        sharded.load_module(self.model, state["model"])
        if self.average is not None:
            self.average.load_state_dict({"updates": self._steps, **state["average"]})
        sharded.load_optimiser(self.optimiser, state["optimisers"][0])

    def export(self, card: dict[str, Any]) -> Part:
        """The decoder as an artifact, from the averaged weights where an average is kept."""
        weights = self.model.state_dict() if self.average is None else self.average.average
        with torch.device("meta"):
            kept = ParallelModel(self.model.stage, self.model.config)
        kept.load_state_dict(sharded.whole(weights), assign=True)
        return kept.to_part(self._requires, card)

    def _sizes(self, batch: FrameBatch) -> tuple[int, int]:
        """Rows of the global batch, and frames that any of them can have."""
        stage = self.model.stage
        return batch.codes.shape[0] * self.world.size, stage.target.frames(stage.crop_frames)

    def _questions(self, batch: FrameBatch, draws: MaskDraws) -> Questions:
        """What is asked of this process's rows."""
        own = draws.rows(self.world.rows(draws.levels.shape[0]))
        rows, num_levels, frames = batch.codes.shape
        prompt, asked = asked_frames(own, batch.lengths, frames)
        hidden = hidden_codes(prompt, asked, own.levels, num_levels)
        answers = batch.codes[torch.arange(rows), own.levels]
        valid = torch.arange(frames) < batch.lengths[:, None]
        seen = batch.codes.masked_fill(hidden, self.model.mask)
        return Questions(batch.semantic, seen, answers, asked, own.levels, valid)

    def _placed(self, questions: Questions) -> list[Tensor]:
        return [tensor.to(self.world.device) for tensor in questions]

    def _means(self, totals: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """`loss` a token and each level's, over parts and processes."""
        sums = self.world.sum(torch.stack([sums for sums, _ in totals]).sum(dim=0))
        counts = self.world.sum(torch.stack([counts for _, counts in totals]).sum(dim=0))
        means = (sums / counts.clamp(min=1)).tolist()
        return {"loss": (sums.sum() / counts.sum()).item(), **{f"loss_{q}": mean for q, mean in enumerate(means)}}


class _Losses(nn.Module):
    """A model's losses as a forward pass, which is what processes share the gradients of."""

    def __init__(self, model: ParallelModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *questions: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.slot_losses(*questions)


def _split(questions: Questions, parts: int) -> list[Questions]:
    return [Questions(*piece) for piece in zip(*(tensor.chunk(parts) for tensor in questions), strict=True)]
