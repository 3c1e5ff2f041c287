"""A batch in parts, so that less of it is in memory at a time, with losses that are those of the whole batch.

Each part's activations are dropped and computed again when its gradient is wanted. Losses that look at the whole
batch (codebook use, ratios of means) thus stay what they are, which they would not if each part had its own.

Source: Chen et al. 2016, Training deep nets with sublinear memory cost (arXiv 1604.06174).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")


def in_parts(function: Callable[..., T], parts: int, *rows: Tensor) -> list[T]:
    """Call `function` on each of so many parts of the rows (b, ...); the list of what it returns."""
    if parts == 1 or not torch.is_grad_enabled():
        return [function(*piece) for piece in _pieces(parts, rows)]
    return [checkpoint(function, *piece, use_reentrant=False) for piece in _pieces(parts, rows)]


def _pieces(parts: int, rows: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    return list(zip(*(tensor.chunk(parts) for tensor in rows), strict=True))
