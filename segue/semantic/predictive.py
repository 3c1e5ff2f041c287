"""Contrastive predictive coding: tell which of the utterance's frames comes in 20, 40, ... 120 ms.

A context knows what was said up to now; from it a vector is made for each of the coming steps, which must lie nearer
to the true frame than to any other of the same crop. All of these are one voice in one room, so that neither helps:
what is left is what is said. The past may be heard as another voice would have said it, while the targets are as
recorded. An encoder that hears both ways is asked for what came before as well, by what goes back.

Shapes: F frames; targets and contexts (B, F, width); valid (B, F) bool, True on real frames; K steps ahead.
Source: arXiv 1807.03748, section 2.3; a layer of attention before the predictions: arXiv 2002.02848, section 3; the
past alone augmented: arXiv 2007.00991, section 3.3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segue.semantic.recurrent import backwards

_HEADS = 4
_WIDER = 4


class Look(nn.Module):
    """One pre-norm layer of causal attention and feed-forward: what of the past matters for what comes.

    The attention is written out: products of this size are faster so on a CPU in bfloat16, back and forth.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)  # a key's would have no effect
        self.out = nn.Linear(width, width)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, _WIDER * width), nn.GELU(), nn.Linear(_WIDER * width, width)
        )

    def forward(self, context: Tensor) -> Tensor:
        """(B, F, width) -> the same."""
        batch, frames, width = context.shape
        split = self.query_key_value(self.norm(context)).view(batch, frames, 3, _HEADS, width // _HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        later = torch.ones(frames, frames, dtype=torch.bool, device=context.device).triu(1)
        scores = (query @ key.mT * (width // _HEADS) ** -0.5).masked_fill(later, float("-inf"))
        mixed = scores.softmax(-1).to(value.dtype) @ value
        context = context + self.out(mixed.transpose(1, 2).reshape(batch, frames, width))
        return context + self.feedforward(context)


class Predictive(nn.Module):
    """The questions.

    Args:
        width: of targets and contexts; a multiple of 4.
        horizon: K, steps ahead.
        temperature: of the softmax over the crop's frames.
    """

    def __init__(self, width: int, horizon: int, temperature: float) -> None:
        super().__init__()
        self.horizon, self.temperature = horizon, temperature
        self.look = Look(width)
        self.heads = nn.Linear(width, horizon * width, bias=False)

    def forward(self, targets: Tensor, contexts: Tensor, valid: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss, mean over the steps ahead of the mean over frames, and metrics."""
        frames = targets.shape[1]
        predicted = self.heads(self.look(contexts)).unflatten(2, (self.horizon, -1)).transpose(1, 2)
        keys = F.normalize(targets.float(), dim=-1)
        lengths = torch.linalg.vector_norm(predicted, dim=-1, dtype=torch.float32)[..., None].clamp(min=1e-6)
        scores = (predicted @ keys[:, None].mT).float() / (lengths * self.temperature)
        scores = scores.masked_fill(~valid[:, None, None], torch.finfo(torch.float32).min)
        steps = torch.arange(frames, device=scores.device)
        answers = steps + torch.arange(1, self.horizon + 1, device=scores.device)[:, None]
        kept = (answers < frames) & valid[:, answers.clamp(max=frames - 1)]
        each = F.cross_entropy(scores.movedim(-1, 1), answers.clamp(max=frames - 1).expand_as(kept), reduction="none")
        asked = kept.sum((0, 2)).clamp(min=1)
        loss = ((each * kept).sum((0, 2)) / asked).sum()
        right = ((scores.detach().argmax(-1) == answers) & kept).sum((0, 2)) / asked
        metrics = {"predictive": loss.detach() / self.horizon, "predictive_accuracy": right.mean()}
        return loss / self.horizon, metrics


class PredictiveBothWays(nn.Module):
    """The questions to both halves of an encoder that hears both ways; arguments as of `Predictive`, of one half."""

    def __init__(self, width: int, horizon: int, temperature: float) -> None:
        super().__init__()
        self.onward = Predictive(width, horizon, temperature)
        self.back = Predictive(width, horizon, temperature)

    def forward(self, targets: Tensor, contexts: Tensor, valid: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Targets and contexts (B, F, 2 * width). Mean loss of the two, and mean metrics."""
        (onward, back), (heard, awaited) = targets.chunk(2, dim=2), contexts.chunk(2, dim=2)
        first, told = self.onward(onward, heard, valid)
        second, told_back = self.back(backwards(back, valid), backwards(awaited, valid), valid)
        return (first + second) / 2, {name: (value + told_back[name]) / 2 for name, value in told.items()}
