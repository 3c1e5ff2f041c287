"""T5's relative positions: a learnt bias for each head and bucket of distances, added to the attention's scores.

Distances up to half the buckets have one each; beyond, a bucket's width grows with the distance, and the last one
takes all that is as far as `FARTHEST` or more. All blocks share the bias.

Shapes: distances (...) int64 tokens back, at least 0; bias (heads, L, L) of query and key.

Source: Raffel et al. 2020, T5 (arXiv 1910.10683), section 2.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

BUCKETS = 32
FARTHEST = 128


def buckets(distances: Tensor) -> Tensor:
    """The bucket (...) of each distance (...)."""
    exact = BUCKETS // 2
    growth = (BUCKETS - exact) / math.log(FARTHEST / exact)
    far = exact + (torch.log(distances.clamp(min=exact) / exact) * growth).long()
    return torch.where(distances < exact, distances, far.clamp(max=BUCKETS - 1))


class RelativeBias(nn.Module):
    """The bias of every head.

    Args:
        heads: query heads.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(heads, BUCKETS))

    def by_distance(self, length: int) -> Tensor:
        """Bias (heads, length) of a key 0, 1, ... tokens back."""
        return self.weight[:, buckets(torch.arange(length, device=self.weight.device))]

    def forward(self, length: int) -> Tensor:
        """Bias (heads, length, length); what lies ahead has that of distance 0."""
        place = torch.arange(length, device=self.weight.device)
        return self.weight[:, buckets((place[:, None] - place).clamp(min=0))]
