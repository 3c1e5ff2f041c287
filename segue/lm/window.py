"""Sliding-window attention where positions are times: a token sees what sounds within so many frames of itself.

That is true of every stream of a sequence, so a code sees the latest codes and, far away in the sequence, the prefix
that describes the same moment. All tokens of a stretch of the sequence see about the same places, so these are read
together and nothing else is: time and memory grow with the length of the sequence and not with its square.

Shapes: positions (B or 1, L) float32; queries, keys, values (B, heads, L, head_dim).

Source: Beltagy et al. 2020, Longformer (arXiv 2004.05150), section 3.1, for windows beside blocks that see everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

STRETCH = 256


@dataclass(frozen=True)
class Stretch:
    """Tokens that attend together.

    Attributes:
        stop: one past their last; the first follows the stretch before.
        places: (n,) that some of them sees.
        seen: (B or 1, 1, tokens, n) bool: which of these each sees.
    """

    stop: int
    places: Tensor
    seen: Tensor


def near(times: Tensor, others: Tensor, frames: int) -> Tensor:
    """Whether tokens at `times` and `others` see each other through a window of `frames`, elementwise."""
    return (times - others).abs() <= frames


def stretches(positions: Tensor, frames: int, mask: Tensor | None = None) -> list[Stretch]:
    """What a sequence sees through a window.

    Args:
        positions: (B or 1, L).
        frames: to either side.
        mask: (B, L), False for padding, which sees itself alone; None where there is none.
    """
    place = torch.arange(positions.shape[1], device=positions.device)
    found = []
    for first in range(0, len(place), STRETCH):
        stop = min(first + STRETCH, len(place))
        now, past = place[first:stop, None], place[:stop]
        seen = near(positions[:, first:stop, None], positions[:, None, :stop], frames) & (now >= past)
        if mask is not None:
            seen = (seen & mask[:, None, :stop]) | (now == past)
        # Tensors without values, on which a step's cost is counted, can't tell: then it is the whole past.
        has_values = type(seen) is Tensor and not seen.is_meta
        places = torch.nonzero(seen.any(dim=0).any(dim=0)).flatten() if has_values else past
        found.append(Stretch(stop, places, seen[..., places][:, None]))
    return found


def attend(queries: Tensor, keys: Tensor, values: Tensor, parts: list[Stretch]) -> Tensor:
    """Attention (B, heads, L, head_dim), stretch by stretch."""
    made, first = [], 0
    for part in parts:
        asked, known, said = queries[:, :, first : part.stop], *(x.index_select(2, part.places) for x in (keys, values))
        made.append(F.scaled_dot_product_attention(asked, known, said, attn_mask=part.seen))
        first = part.stop
    return torch.cat(made, dim=2)
