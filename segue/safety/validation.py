"""How well a detector does on whom it was not trained on: cross-validation by group, and figures of its scores.

real, made: (P, S) pieces of each recording, as many of both; logits (P,) likewise. Scores (n,) and labels (n,), 1 for
what was made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segue.errors import SegueError
from segue.safety.detector import DetectorConfig, train

FOLDS = 5


@dataclass(frozen=True)
class Heard:
    """A recording's pieces and those made of it, heard by a detector that knows neither them nor their group.

    Attributes:
        real: (P,) logits.
        made: (P,).
        group: of the recording.
    """

    real: np.ndarray
    made: np.ndarray
    group: int


def cross_validated(
    real: Sequence[Tensor],
    made: Sequence[Tensor],
    groups: Sequence[int],
    config: DetectorConfig,
    seed: int,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> list[Heard]:
    """Every recording, heard by a detector that was trained on other groups.

    Args:
        real: (P, S) pieces of each recording.
        made: (P, S) of the sound made of each.
        groups: of each; a group is either trained on or heard.
        config: of the detectors.
        seed: of folds and trainings.
        told: folds done, and all.

    Returns:
        one a recording, in order.

    Raises:
        SegueError: if there are fewer than two groups.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise SegueError(f"detector: {len(names)} speakers or recordings; at least 2 are needed to hold one out")
    order = np.random.default_rng(seed).permutation(names)
    folds = [set(order[start :: min(FOLDS, len(names))].tolist()) for start in range(min(FOLDS, len(names)))]
    found: dict[int, Heard] = {}
    for number, held_out in enumerate(folds):
        told(number, len(folds))
        known = [place for place, group in enumerate(groups) if group not in held_out]
        detector = train([real[place] for place in known], [made[place] for place in known], config, seed + number)
        for place, group in enumerate(groups):
            if group in held_out:
                logits = [detector.logits(side[place]).double().numpy() for side in (real, made)]
                found[place] = Heard(logits[0], logits[1], group)
    told(len(folds), len(folds))
    return [found[place] for place in range(len(groups))]


def halves(real: Sequence[Tensor], seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Each recording's pieces (P, S) dealt at random into two halves: what no detector should tell apart."""
    rng = torch.Generator().manual_seed(seed)
    first, second = [], []
    for pieces in real:
        half = len(pieces) // 2
        order = torch.randperm(len(pieces), generator=rng)
        first.append(pieces[order[:half]])
        second.append(pieces[order[half : 2 * half]])
    return first, second


def scores_of(heard: Sequence[Heard], pieces: int | None) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Mean logits of stretches of so many pieces, None for all of a recording's.

    Returns:
        scores (n,), labels (n,), and the group of each.
    """
    scores, labels, groups = [], [], []
    for one in heard:
        size = pieces or len(one.real)
        for label, logits in enumerate((one.real, one.made)):
            for start in range(0, len(logits) - size + 1, size or 1):
                if size:
                    scores.append(float(logits[start : start + size].mean()))
                    labels.append(label)
                    groups.append(one.group)
    return np.asarray(scores), np.asarray(labels), groups


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share on the right side of nought; a score of nought counts half. NaN where there are none."""
    right = (scores > 0) == (labels == 1)
    return float(np.where(scores == 0, 0.5, right).mean()) if len(scores) else float("nan")


def area(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve: how often made sound scores above real sound, ties counted half. NaN without both."""
    real, made = np.sort(scores[labels == 0]), scores[labels == 1]
    if not len(real) or not len(made):
        return float("nan")
    below = np.searchsorted(real, made, "left") + np.searchsorted(real, made, "right")
    return float(below.mean() / (2 * len(real)))


def equal_error_rate(scores: np.ndarray, labels: np.ndarray) -> float:
    """The error rate at the threshold where both kinds of error are equally frequent. NaN without both kinds."""
    real, made = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
    if not len(real) or not len(made):
        return float("nan")
    thresholds = np.concatenate([[-np.inf], np.unique(scores), [np.inf]])
    false_alarms = 1 - np.searchsorted(real, thresholds, "left") / len(real)
    misses = np.searchsorted(made, thresholds, "left") / len(made)
    gap = false_alarms - misses  # falls from 1 to -1
    after = int(np.argmax(gap <= 0))
    if after == 0 or gap[after] == 0:
        return float((false_alarms[after] + misses[after]) / 2)
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(false_alarms[after - 1] + share * (false_alarms[after] - false_alarms[after - 1]))
