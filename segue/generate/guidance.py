"""Guidance: a stage is made to follow what it is told more than it would by itself.

A stage was trained with and without its semantic prefix, and on crops that begin anywhere. So it can be asked twice
for the next token: knowing all it is told, and bare, with neither the semantic prefix nor anything before the new
frames. What it says more often in the first case than in the second is due to what it was told; that is taken
`guidance` times over. At 1 nothing changes; above, voice and words keep closer to prompt and semantic tokens, for
twice the stage's compute; below, less.

Shapes: logits (B, C) of one token's classes.
Source: classifier-free guidance, Ho and Salimans 2022 (arXiv 2207.12598), in logits of a language model as in Sanchez
et al. 2023 (arXiv 2306.17806).
"""

from __future__ import annotations

import torch
from torch import Tensor

from segue.lm.decoder import Decoder


class Reader:
    """A decoder that has read a window's opening."""

    def __init__(self, decoder: Decoder, tokens: Tensor, positions: Tensor, mask: Tensor | None) -> None:
        self._decoder = decoder
        self._state = decoder.prefill(tokens, positions, mask)

    @property
    def finite(self) -> bool:
        """Whether what the model says is finite."""
        return bool(torch.isfinite(self._state).all())

    def logits(self, first: int, count: int) -> Tensor:
        """Logits (B, count) of the ids from `first` on, for the token that comes next."""
        return self._decoder.logits(self._state, first, count)

    def step(self, ids: Tensor) -> None:
        """Read one more token a row (B,)."""
        self._state = self._decoder.step(ids)


class Guided:
    """Two readers as one.

    Args:
        told: that has read all there is.
        bare: that has read nothing of it.
        guidance: times that the difference is taken.
    """

    def __init__(self, told: Reader, bare: Reader, guidance: float) -> None:
        self._told, self._bare, self._guidance = told, bare, guidance

    @property
    def finite(self) -> bool:
        """As of a reader."""
        return self._told.finite and self._bare.finite

    def logits(self, first: int, count: int) -> Tensor:
        """As of a reader."""
        told = self._told.logits(first, count).float()
        bare = self._bare.logits(first, count).float()
        return bare + self._guidance * (told - bare)

    def step(self, ids: Tensor) -> None:
        """As of a reader."""
        self._told.step(ids)
        self._bare.step(ids)
