"""ABX: how often a sound lies nearer to one of another kind than to one of its own. 0 is perfect, 0.5 is chance.

X is of A's kind, B of another; A and B are of one speaker, X of the same (within) or of another one (across). A triple
counts 1 where d(A, X) > d(B, X), one half where they are equal (nearer than 1e-6), else 0. It is averaged over the
triples of a cell (speaker of A and B, speaker of X, kind a, kind b), then over the speakers of each pair of kinds, then
over the pairs of kinds. Items are single frames, or segments compared by dynamic time warping; with contexts (a phone's
neighbours), A, B and X must share theirs.

Shapes: features (n, D), one frame an item, or a list of (L, D); labels, speakers, contexts (n,) int64; S speakers,
K kinds; cells (S, S, K, K) [A's and B's speaker, X's speaker, a, b], NaN where there is no triple.
Source: Schatz et al., Interspeech 2013; Libri-Light, arXiv 1912.07875, section 4; contexts or none: Hallap et al.,
arXiv 2210.15775.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segue.errors import SegueError

Mode = Literal["within", "across"]
_EQUAL = 1e-6
_PAIRS_AT_ONCE = 4096
_RESAMPLES = 1000


@dataclass(frozen=True)
class Items:
    """What is compared.

    Attributes:
        features: (n, D), one frame an item; or n segments, (L, D) each. Floating ones are compared by the angle between
            them, whole numbers (tokens or codes, D codebooks) by the share of the D that differ.
        labels: (n,) kinds, from 0.
        speakers: (n,) who, from 0.
        contexts: (n,) what surrounds each item; None: whatever it is.
    """

    features: Tensor | Sequence[Tensor]
    labels: Tensor
    speakers: Tensor
    contexts: Tensor | None = None

    def __post_init__(self) -> None:
        counts = {len(self.features), len(self.labels), len(self.speakers)}
        if len(counts) != 1 or (self.contexts is not None and len(self.contexts) not in counts):
            raise SegueError(f"ABX: features, labels, speakers of {sorted(counts)} items; give one of each")

    def __getitem__(self, kept: Tensor) -> Items:
        """The items of these indices."""
        whole = self.features
        features = whole[kept] if isinstance(whole, Tensor) else [whole[i] for i in kept.tolist()]
        contexts = None if self.contexts is None else self.contexts[kept]
        return Items(features, self.labels[kept], self.speakers[kept], contexts)


@dataclass(frozen=True)
class Score:
    """An ABX error.

    Attributes:
        error: the mean, from 0 to 1; NaN if there was no triple.
        low: lower end of the 95 % interval, by bootstrap over speakers; NaN below three of them.
        high: upper end.
        speakers: S.
        cells: pairs of kinds with pairs of speakers that had triples.
    """

    error: float
    low: float
    high: float
    speakers: int
    cells: int


def abx(items: Items, mode: Mode, seed: int = 0, most: int = 10) -> Score:
    """The ABX error of some items.

    Args:
        items: what is compared.
        mode: X of the same speaker as A and B, or of another.
        seed: of the choice of items and the bootstrap.
        most: items of one kind (in one context) and speaker that are taken, at random where there are more.

    Raises:
        SegueError: if items don't fit each other.
    """
    rng = np.random.default_rng(seed)
    few = items[_at_most(items, most, rng)]
    return summary(cells(few, mode), mode, rng)


def cells(items: Items, mode: Mode) -> Tensor:
    """Mean error of every cell, (S, S, K, K) float32; NaN where there is no triple."""
    distance = _frame_distance if isinstance(items.features, Tensor) else _segment_distance
    speakers, kinds = int(items.speakers.max()) + 1, int(items.labels.max()) + 1
    wrong, triples = torch.zeros(2, speakers, speakers, kinds, kinds)
    contexts = torch.zeros_like(items.labels) if items.contexts is None else items.contexts
    for context in contexts.unique():
        inside = contexts == context
        groups = [(inside & (items.speakers == s)).nonzero()[:, 0] for s in range(speakers)]
        for s, first in enumerate(groups):
            for t in [s] if mode == "within" else [t for t in range(speakers) if t != s]:
                if len(first) > 1 and len(groups[t]):
                    distances = distance(items, groups[t], first)
                    pair = _triples(distances, items.labels[groups[t]], items.labels[first], kinds, s == t)
                    wrong[s, t] += pair[0]
                    triples[s, t] += pair[1]
    return wrong / triples


def summary(found: Tensor, mode: Mode, rng: np.random.Generator) -> Score:
    """Cells (S, S, K, K) averaged, with an interval: speakers are drawn anew with repetition."""
    speakers = found.shape[0]
    table = found.flatten(2).flatten(0, 1)
    defined = ~table.isnan()
    table = table.nan_to_num()

    def error(weights: Tensor) -> Tensor:
        """(R, S) draws of each speaker -> (R,)."""
        pairs = torch.diag_embed(weights) if mode == "within" else weights[:, :, None] * weights[:, None, :]
        share = pairs.flatten(1) @ defined.to(table)
        mean = (pairs.flatten(1) @ table) / share
        return mean.nanmean(1)

    low, high = float("nan"), float("nan")
    if speakers > 2:
        draws = rng.multinomial(speakers, np.full(speakers, 1 / speakers), size=_RESAMPLES)
        many = torch.cat([error(part) for part in torch.from_numpy(draws).float().split(100)])
        low, high = (float(many.nanquantile(q)) for q in (0.025, 0.975))
    return Score(float(error(torch.ones(1, speakers))), low, high, speakers, int(defined.sum()))


def _at_most(items: Items, most: int, rng: np.random.Generator) -> Tensor:
    """Indices of at most so many items of each kind, context and speaker."""
    columns = [items.speakers, items.labels] + ([] if items.contexts is None else [items.contexts])
    _, groups = np.unique(torch.stack(columns, dim=1).numpy(), axis=0, return_inverse=True)
    order = rng.permutation(len(groups))
    order = order[np.argsort(groups.ravel()[order], kind="stable")]
    starts = np.flatnonzero(np.diff(groups.ravel()[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return torch.from_numpy(np.sort(order[place < most]))


def _triples(distances: Tensor, of_x: Tensor, of_ab: Tensor, kinds: int, same: bool) -> tuple[Tensor, Tensor]:
    """Errors and triples of each (a, b), (K, K) each: distances (X, AB); `same`: X and AB are the same items."""
    wrong, triples = torch.zeros(2, kinds, kinds)
    to_kind = F.one_hot(of_ab, kinds).float()
    for a in of_x.unique():
        x, own = (of_x == a).nonzero()[:, 0], (of_ab == a).nonzero()[:, 0]
        allowed = x[:, None] != own if same else torch.ones(len(x), len(own), dtype=torch.bool)
        near = distances[x][:, own][..., None]  # d(A, X) as (X, A, 1)
        gap = distances[x][:, None, :] - near  # d(B, X) - d(A, X) as (X, A, B)
        errors = (gap < -_EQUAL).float() + 0.5 * (gap.abs() <= _EQUAL).float()
        wrong[a] = (errors * allowed[..., None]).sum((0, 1)) @ to_kind
        triples[a] = allowed.sum() * to_kind.sum(0)
    keep = ~torch.eye(kinds, dtype=torch.bool)
    return wrong * keep, triples * keep


def _frame_distance(items: Items, x: Tensor, ab: Tensor) -> Tensor:
    """Distances between frames, (X, AB)."""
    assert isinstance(items.features, Tensor)
    prepared = _prepared(items.features)
    return _distances(prepared[x][None], prepared[ab][None])[0]


def _segment_distance(items: Items, x: Tensor, ab: Tensor) -> Tensor:
    """Mean distance along the best warping path of every two segments, (X, AB)."""
    padded = torch.nn.utils.rnn.pad_sequence([_prepared(segment) for segment in items.features], batch_first=True)
    lengths = torch.tensor([len(segment) for segment in items.features])
    rows, columns = (grid.reshape(-1) for grid in torch.meshgrid(x, ab, indexing="ij"))
    found = torch.zeros(len(rows))
    sizes = torch.maximum(lengths[rows], lengths[columns])
    for part in sizes.argsort().split(_PAIRS_AT_ONCE):  # pairs of like length together, so that little is padding
        first, second = rows[part], columns[part]
        frames = _distances(padded[first, : lengths[first].max()], padded[second, : lengths[second].max()])
        found[part] = warped(frames, lengths[first], lengths[second])
    return found.reshape(len(x), len(ab))


def warped(distances: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Dynamic time warping: the least sum of distances along a path from start to end, over the path's length.

    Args:
        distances: (P, L, M) between the frames of each pair.
        first: (P,) frames of the one, at most L.
        second: (P,) frames of the other, at most M.

    Returns:
        (P,). Of paths with equal sums the shortest step back is diagonal, then along the first, then the second.
    """
    pairs, rows, columns = distances.shape
    cost = distances.new_full((pairs, rows + 1, columns + 1), float("inf"))
    steps = torch.zeros_like(cost)
    cost[:, 0, 0] = 0
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            before = torch.stack([cost[:, i - 1, j - 1], cost[:, i - 1, j], cost[:, i, j - 1]], dim=1)
            taken = torch.stack([steps[:, i - 1, j - 1], steps[:, i - 1, j], steps[:, i, j - 1]], dim=1)
            least, which = before.min(dim=1)
            cost[:, i, j] = least + distances[:, i - 1, j - 1]
            steps[:, i, j] = taken.gather(1, which[:, None])[:, 0] + 1
    every = torch.arange(pairs)
    return cost[every, first, second] / steps[every, first, second]


def _prepared(features: Tensor) -> Tensor:
    """Features of length 1 where angles are to be taken."""
    return F.normalize(features.float(), dim=-1) if features.is_floating_point() else features


def _distances(first: Tensor, second: Tensor) -> Tensor:
    """From 0 to 1 between the frames of pairs of segments: (P, L, D) and (P, M, D) to (P, L, M).

    Angles are rounded, so that equal features have equal distances whatever order their products were summed in.
    """
    if not first.is_floating_point():
        return (first[:, :, None] != second[:, None]).float().mean(-1)
    cosine = torch.bmm(first, second.transpose(1, 2)).double().clamp(-1, 1)
    return (torch.acos(cosine) / torch.pi * 1e5).round().float() / 1e5
