"""Fréchet audio distance: how far the sounds of two sets are apart, as two Gaussians of their embeddings.

waves -> embeddings (n, D) a wave -> moments a wave, which add up, so that an interval over groups costs no more sound.

The embedding is of the log-mel spectrum: mean and deviation of each of 40 bands over windows of 0.96 s, which are
VGGish's. It knows of timbre, level, noise and rhythm, nothing of words. Its values can't be compared with those of
another embedding, nor with those of another number of windows: few windows make the distance larger.

Source: Kilgour et al. 2019, Fréchet Audio Distance (arXiv 1812.08466).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segue import audio
from segue.evaluate.measures import Figure
from segue.semantic.features import MEL_HOP, SAMPLE_RATE, LogMel

EMBEDDING = "log-mel"
BANDS = 40
WINDOW_SECONDS, HOP_SECONDS = 0.96, 0.48
_RESAMPLES = 200


@dataclass(frozen=True)
class Moments:
    """Sums over embeddings.

    Attributes:
        count: n.
        first: (D,) their sum.
        second: (D, D) the sum of their outer products.
    """

    count: int
    first: np.ndarray
    second: np.ndarray


def moments(wave: Tensor, sample_rate: int) -> Moments:
    """Of the windows of a wave (N,); one shorter than a window has none."""
    samples = audio.to_mono(wave.numpy(), sample_rate, SAMPLE_RATE)
    size, hop = (round(seconds * SAMPLE_RATE / MEL_HOP) for seconds in (WINDOW_SECONDS, HOP_SECONDS))
    frames = len(samples) // MEL_HOP
    if frames < size:
        return Moments(0, np.zeros(2 * BANDS), np.zeros((2 * BANDS, 2 * BANDS)))
    mel = LogMel(BANDS).raw(torch.from_numpy(samples)[None])[0][:frames].double()
    windows = mel.unfold(0, size, hop)
    rows = np.concatenate([windows.mean(2).numpy(), windows.std(2).numpy()], axis=1)
    return Moments(len(rows), rows.sum(0), rows.T @ rows)


def distance(ours: Sequence[Moments], theirs: Sequence[Moments]) -> float:
    """Between the Gaussians of two sets; NaN where one has fewer than two windows."""
    one, two = _gaussian(ours, np.ones(len(ours))), _gaussian(theirs, np.ones(len(theirs)))
    return math.nan if one is None or two is None else _between(one, two)


def figure(ours: Sequence[Moments], theirs: Sequence[Moments], groups: Sequence[int], seed: int) -> Figure:
    """The distance with an interval: groups are drawn anew, with their sounds on both sides.

    A draw has fewer different sounds than the whole, which makes its distances larger; so the interval is as wide as
    that of the draws but lies around the figure.

    Args:
        ours: one a row.
        theirs: likewise, of what ours are compared with.
        groups: of each row.
        seed: of the draws.
    """
    value = distance(ours, theirs)
    names, number = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 3 or math.isnan(value):
        return Figure(value)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), _RESAMPLES)
    found = []
    for counts in drawn[:, number]:
        one, two = _gaussian(ours, counts), _gaussian(theirs, counts)
        if one is not None and two is not None:
            found.append(_between(one, two))
    low, high = np.quantile(found, (0.025, 0.975)) - np.mean(found)
    return Figure(value, max(0.0, value + float(low)), value + float(high))


def _gaussian(rows: Sequence[Moments], counts: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    taken = [(row, times) for row, times in zip(rows, counts.tolist(), strict=True) if times and row.count]
    count = sum(row.count * times for row, times in taken)
    if count < 2:
        return None
    mean = sum(row.first * times for row, times in taken) / count
    second = sum(row.second * times for row, times in taken)
    return mean, (second - count * np.outer(mean, mean)) / (count - 1)


def _between(one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray]) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2), the last by a symmetric matrix of the same eigenvalues."""
    values, vectors = np.linalg.eigh(one[1])
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ two[1] @ root).clip(0)).sum()
    apart = np.square(one[0] - two[0]).sum() + np.trace(one[1]) + np.trace(two[1]) - 2 * shared
    return float(max(apart, 0.0))
