"""Weights in eight bits: each row of a matrix as int8 with a scale of its own.

Shapes: weight (rows, columns) float, int8 (rows, columns), scales (rows,).
"""

from __future__ import annotations

import torch
from torch import Tensor


def quantise_rows(weight: Tensor, scale_dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """A matrix as int8 in [-127, 127] and scales, so that weight is nearly int8 * scales[:, None].

    Args:
        weight: (rows, columns), or (..., columns) with a scale for each vector.
        scale_dtype: of the scales; the int8 numbers fit the scales as rounded to it.

    Returns:
        int8 of the same shape, and scales (...) without the last axis; those of rows of zeros are 1.
    """
    weight = weight.detach().float()
    scales = weight.abs().amax(dim=-1) / 127
    scales = torch.where(scales > 0, scales, 1.0).to(scale_dtype)
    rounded = (weight / scales.float()[..., None]).round_().clamp_(-127, 127)
    return rounded.to(torch.int8), scales
