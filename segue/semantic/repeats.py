"""Runs of equal semantic tokens: taken out for the language model, put back where time must stay aligned.

Shapes: tokens (T,), units (U,), durations (U,) in frames; U <= T.
Source: AudioLM, arXiv 2209.03143, section 3.2 (consecutive repetitions are removed).
"""

from __future__ import annotations

import torch
from torch import Tensor

from segue.errors import SegueError


def deduplicate(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Each run of equal tokens as one unit and its length in frames.

    Args:
        tokens: (T,) integers.

    Returns:
        units (U,) and durations (U,), which add up to T.

    Raises:
        SegueError: if `tokens` has more than one dimension.
    """
    if tokens.ndim != 1:
        raise SegueError(f"tokens of shape {tuple(tokens.shape)}: deduplicate takes one row (T,) at a time")
    units, durations = torch.unique_consecutive(tokens, return_counts=True)
    return units, durations


def restore(units: Tensor, durations: Tensor) -> Tensor:
    """The tokens (T,) that `deduplicate` took apart.

    Raises:
        SegueError: if the two differ in shape or a duration is negative.
    """
    if units.ndim != 1 or units.shape != durations.shape:
        raise SegueError(
            f"units {tuple(units.shape)} and durations {tuple(durations.shape)}: must be two rows of one length"
        )
    if bool((durations < 0).any()):
        raise SegueError("durations: must not be negative")
    return torch.repeat_interleave(units, durations)
