"""The code that is least far from what is to be expected, for codes that nobody can foresee.

Where a stage hardly knows which code comes next, the likeliest one is right once in a hundred times, and elsewhere it
adds its full length in a wrong direction. The code nearest to the mean of all codes, each with its probability, has the
least squared error to be expected: a stage that is sure takes the likeliest code by it, and one that knows nothing
takes the code that changes least.

Shapes: logits (B, C) of one codebook's C codes; vectors (C, W) of theirs; choices (B,) int64.
Source: minimum Bayes risk decoding, Kumar and Byrne 2004 (NAACL), for the squared distance.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segue.semantic.kmeans import nearest


def least_error(logits: Tensor, vectors: Tensor) -> Tensor:
    """The code (B,) whose vector has the least expected squared distance from that of the code to come."""
    return nearest(torch.softmax(logits.float(), dim=-1) @ vectors, vectors)
