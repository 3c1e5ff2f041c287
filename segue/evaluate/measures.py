"""What tokens tell: of the phone, which they should, and of the speaker, which they should not.

Shapes: tokens and labels (n,) int64, one a frame; counts (U, K) of units and kinds; a recording's tokens (Q, T).
Information is in nats. Needs scikit-learn (extra "train") for the classifier alone, imported only there.
Source: HuBERT, arXiv 2106.07447, section V.B (purity, phone-normalised mutual information).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segue.errors import SegueError

_RESAMPLES = 1000
_MOST_FOLDS = 5


@dataclass(frozen=True)
class Figure:
    """A measured value.

    Attributes:
        value: NaN if it could not be measured.
        low: lower end of the 95 % interval, by bootstrap over speakers; NaN where there is none.
        high: upper end.
    """

    value: float
    low: float = math.nan
    high: float = math.nan


def counts(tokens: Tensor, labels: Tensor) -> Tensor:
    """How often each unit fell on each kind: (U, K) float64."""
    units, kinds = int(tokens.max()) + 1, int(labels.max()) + 1
    return torch.bincount(tokens * kinds + labels, minlength=units * kinds).reshape(units, kinds).double()


def purity(table: Tensor) -> float:
    """Share of frames whose unit's commonest kind is theirs."""
    return float(table.max(dim=1).values.sum() / table.sum())


def information(table: Tensor) -> float:
    """Mutual information of unit and kind. It is biased upwards where frames are few for so many units."""
    return entropy(table.sum(0)) + entropy(table.sum(1)) - entropy(table)


def normalised_information(table: Tensor) -> float:
    """Mutual information as a share of the kinds' entropy: 1 if a unit tells the kind, NaN of one kind alone."""
    whole = entropy(table.sum(0))
    return information(table) / whole if whole > 0 else math.nan


def entropy(numbers: Tensor) -> float:
    """Of the distribution that these counts stand for."""
    share = numbers.double().flatten() / numbers.sum()
    return float(-(share * share.clamp(min=1e-300).log()).sum())


def bootstrap(
    rows: Sequence[int], speakers: Sequence[int], statistic: Callable[[np.ndarray], float], seed: int
) -> Figure:
    """A statistic of some rows, with an interval: speakers are drawn anew with repetition.

    Args:
        rows: what the statistic is of, by index.
        speakers: who each row is of.
        statistic: of an array of rows.
        seed: of the draws.
    """
    indices, who = np.asarray(rows), np.asarray(speakers)
    names = np.unique(who)
    if len(names) < 3:
        return Figure(statistic(indices))
    rng, order = np.random.default_rng(seed), np.argsort(who, kind="stable")
    edges = np.cumsum(np.unique(who, return_counts=True)[1])[:-1]
    own = dict(zip(names.tolist(), np.split(indices[order], edges), strict=True))
    drawn = (np.concatenate([own[name] for name in rng.choice(names, len(names)).tolist()]) for _ in range(_RESAMPLES))
    low, high = np.nanquantile([statistic(draw) for draw in drawn], (0.025, 0.975))
    return Figure(statistic(indices), float(low), float(high))


def mean(values: Sequence[float], groups: Sequence[int], seed: int) -> Figure:
    """The mean of some rows with an interval: groups are drawn anew with repetition. NaN rows are left out.

    Args:
        values: one a row.
        groups: what each row goes with: its speaker, or itself.
        seed: of the draws.
    """
    return ratio(values, np.ones(len(values)), groups, seed)


def ratio(above: Sequence[float], below: Sequence[float] | np.ndarray, groups: Sequence[int], seed: int) -> Figure:
    """A sum over rows divided by another, such as errors by words, with an interval as that of `mean`.

    Every draw is two products of a matrix of counts, so that thousands of rows take as long as ten.

    Args:
        above: one a row.
        below: likewise.
        groups: what each row goes with.
        seed: of the draws.
    """
    top, under, who = (np.asarray(column, dtype=float) for column in (above, below, groups))
    known = np.isfinite(top) & np.isfinite(under)
    names, number = np.unique(who[known], return_inverse=True)
    tops, unders = (np.bincount(number, column[known], len(names)) for column in (top, under))
    if not len(names) or not unders.sum():
        return Figure(math.nan)
    value = float(tops.sum() / unders.sum())
    if len(names) < 3:
        return Figure(value)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), _RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = np.nanquantile((drawn @ tops) / (drawn @ unders), (0.025, 0.975))
    return Figure(value, float(low), float(high))


@dataclass(frozen=True)
class Recognised:
    """How well speakers are told by their tokens.

    Attributes:
        accuracy: share of the pieces whose speaker is named.
        chance: share of the commonest speaker.
        speakers: that were told apart: those with two recordings or more.
        pieces: of sound that were classified.
    """

    accuracy: Figure
    chance: float
    speakers: int
    pieces: int


def speaker_accuracy(
    recordings: Sequence[Tensor], speakers: Sequence[int], size: int, piece_frames: int, seed: int
) -> Recognised:
    """Accuracy of a linear classifier of how often each token comes in a piece, on recordings it was not shown.

    Args:
        recordings: tokens (Q, T) each.
        speakers: of each.
        size: tokens a codebook.
        piece_frames: frames of a piece; what is left over of a recording is left out.
        seed: of the folds and the bootstrap.

    Raises:
        SegueError: if fewer than two speakers have two recordings of at least one piece, or scikit-learn is missing.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise SegueError('speaker accuracy needs scikit-learn; pip install "segue[train]"') from error
    rows, whose, source = [], [], []
    for index, (tokens, speaker) in enumerate(zip(recordings, speakers, strict=True)):
        for piece in tokens.split(piece_frames, dim=1):
            if piece.shape[1] == piece_frames:
                rows.append(F.one_hot(piece, size).sum(1).flatten().double().sqrt().numpy())
                whose.append(speaker)
                source.append(index)
    numbers, groups = np.asarray(whose), np.asarray(source)
    several = {name for name in set(whose) if len(np.unique(groups[numbers == name])) > 1}
    kept = np.flatnonzero([name in several for name in whose])
    if len(several) < 2:
        raise SegueError(f"{len(several)} speakers with two recordings or more: at least 2 are needed to tell apart")
    x, y, of = np.asarray(rows)[kept], numbers[kept], groups[kept]
    folds = min(_MOST_FOLDS, min(len(np.unique(of[y == name])) for name in several))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    right = cross_val_predict(model, x, y, groups=of, cv=split) == y
    accuracy = bootstrap(range(len(y)), y.tolist(), lambda chosen: float(right[chosen].mean()), seed)
    return Recognised(accuracy, float(np.bincount(y).max() / len(y)), len(several), len(y))


def agreement(whole: Tensor, part: Tensor, near_frames: int) -> tuple[float, float]:
    """Share of equal tokens near a cut and away from it.

    Args:
        whole: (T,) tokens of a recording.
        part: (t,) tokens of its first t frames, encoded alone.
        near_frames: how many of the last ones are near the cut.

    Returns:
        near, away.
    """
    equal = (whole[: len(part)] == part).double()
    return float(equal[-near_frames:].mean()), float(equal[:-near_frames].mean())
