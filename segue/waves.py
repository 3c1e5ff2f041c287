"""What every tokenizer is given, checked, and cut where it is long.

wave (B, N) mono floats in [-1, 1], lengths (B,) in samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from segue.errors import SegueError


def check_wave(wave: Tensor, lengths: Tensor | None) -> None:
    """Refuse what is no batch of waves.

    Raises:
        SegueError: if it is not a finite floating-point (B, N), B and N at least 1, or lengths not (B,) from 1 to N.
    """
    if wave.ndim != 2 or wave.shape[0] == 0:
        raise SegueError(f"wave of shape {tuple(wave.shape)}: must be mono, (rows, samples); add a row with wave[None]")
    if not wave.is_floating_point():
        raise SegueError(f"wave of dtype {wave.dtype}: must be floating, in [-1, 1]; divide integers by their maximum")
    if wave.shape[1] == 0:
        raise SegueError(f"wave of shape {tuple(wave.shape)}: without samples; there is nothing to tokenise")
    if not bool(torch.isfinite(wave).all()):
        raise SegueError("wave holds NaN or infinity: clean it first")
    if lengths is None:
        return
    if lengths.shape != wave.shape[:1] or lengths.is_floating_point():
        raise SegueError(f"lengths of shape {tuple(lengths.shape)}: must be {wave.shape[0]} whole numbers")
    if bool((lengths < 1).any()) or bool((lengths > wave.shape[1]).any()):
        raise SegueError(f"lengths {lengths.tolist()}: must be from 1 to the {wave.shape[1]} samples of the wave")


def pieces(frames: int, length: int, context: int) -> Iterator[tuple[int, int, int, int]]:
    """A long sound in pieces that see something of their neighbours.

    Args:
        frames: of the sound.
        length: frames of a piece; the last may be shorter.
        context: frames that a piece sees to either side of itself, where there are any.

    Yields:
        first and one-past-last frame of each piece, then those of the stretch that it sees.
    """
    for first in range(0, frames, length):
        last = min(first + length, frames)
        yield first, last, max(0, first - context), min(frames, last + context)
