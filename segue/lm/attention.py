"""Causal attention for training on a CPU: stretch by stretch, in large products, without what no token sees.

Several query heads share a key/value head (G of them): their queries of a stretch are read together. What a token
attends to is kept for the way back, in the precision of the products, which memory on a CPU allows.

Shapes: queries (B, heads, L, head_dim); keys and values (B, kv_heads, L, head_dim); heads = G * kv_heads.

Source: attention, arXiv 1706.03762, 3.2.1; shared heads, arXiv 2305.13245; a softmax's gradient from the sum over its
output, arXiv 2205.14135, appendix B.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

STRETCH = 128
MOST_KEPT = 2**28
"""Numbers that one call may keep for the way back: B * heads * L^2 / 2, in bfloat16 half a gigabyte."""


def suits(queries: Tensor) -> bool:
    """Whether `causal` is the faster way here: to train on a CPU in bfloat16, unless it kept too much."""
    trained = torch.is_grad_enabled() and queries.requires_grad
    low = queries.dtype == torch.bfloat16 and queries.device.type == "cpu"
    return trained and low and queries.shape[:3].numel() * queries.shape[2] <= 2 * MOST_KEPT


def causal(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What each token makes of those up to itself: (B, heads, L, head_dim)."""
    return _Causal.apply(queries, keys, values)


class _Causal(torch.autograd.Function):
    """The way there and back; the work is done on rows (B * kv_heads, G, L, head_dim)."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        scale = queries.shape[-1] ** -0.5
        known, said = keys.flatten(0, 1).contiguous(), values.flatten(0, 1).contiguous()
        asked = (queries * scale).reshape(len(known), -1, *queries.shape[2:])
        made, shares = torch.empty_like(asked), []
        for first, stop in _stretches(asked.shape[2]):
            likeness = _rows(asked, first, stop) @ known[:, :stop].mT
            _hide(likeness, stop - first)
            shares.append(likeness.softmax(dim=-1))
            made[:, :, first:stop] = (shares[-1] @ said[:, :stop]).view_as(made[:, :, first:stop])
        ctx.save_for_backward(asked, known, said, made, *shares)
        ctx.scale, ctx.batch = scale, len(queries)
        return made.view(queries.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, pull: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        asked, known, said, made, *shares = ctx.saved_tensors
        pull = pull.reshape(asked.shape)
        sums = (pull.float() * made.float()).sum(dim=-1, keepdim=True)
        of_queries = torch.empty_like(asked)
        of_keys, of_values = (torch.zeros_like(part, dtype=torch.float32) for part in (known, said))
        for (first, stop), share in zip(_stretches(asked.shape[2]), shares, strict=True):
            here = _rows(pull, first, stop)
            of_values[:, :stop] += share.mT @ here
            of_likeness = (here @ said[:, :stop].mT).sub_(_rows(sums, first, stop)).mul_(share)
            of_queries[:, :, first:stop] = (of_likeness @ known[:, :stop]).view_as(of_queries[:, :, first:stop])
            of_keys[:, :stop] += of_likeness.mT @ _rows(asked, first, stop)
        shape = (ctx.batch, -1, *known.shape[1:])
        of_queries = (of_queries * ctx.scale).view(shape)
        return of_queries, of_keys.to(known.dtype).view(shape), of_values.to(said.dtype).view(shape)


def _stretches(length: int) -> list[tuple[int, int]]:
    return [(first, min(first + STRETCH, length)) for first in range(0, length, STRETCH)]


def _rows(part: Tensor, first: int, stop: int) -> Tensor:
    """Of all heads of a group, one under the other: (N, G, L, D) -> (N, G * tokens, D)."""
    return part[:, :, first:stop].flatten(1, 2)


def _hide(likeness: Tensor, tokens: int) -> None:
    """Nobody sees a later token of the own stretch: (N, G * tokens, stop)."""
    later = likeness.new_full((tokens, tokens), -math.inf).triu(1)
    likeness.unflatten(1, (-1, tokens))[..., -tokens:] += later
