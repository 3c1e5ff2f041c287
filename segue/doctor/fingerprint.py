"""Near duplicates among recordings: the same sound at another level, through another codec, or cut elsewhere.

wave (N,) -> words (n,) uint32, a bit for each of 24 pairs of neighbouring bands: whether the difference of their
energies grew since the frame before. Many words survive levels, filters, coding and cuts; by chance two are equal once
in sixteen million times. Recordings that share many words share sound. Every fourth word, by its value, is kept.

Source: Haitsma and Kalker, A Highly Robust Audio Fingerprinting System (ISMIR 2002), section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

SAMPLE_RATE = 16_000
SHARED = 0.2
"""Share of the shorter one's words from which on two recordings are near duplicates. MP3, Vorbis and a cut at the
beginning left 0.2 to 0.7 of them in 68 recordings of speech and piano; no two of 320 other ones shared 0.1."""
FEWEST_SHARED = 6
"""Fewer words than this may be shared by chance: other recordings shared up to three."""
COMMON = 20
"""A word in more recordings than this says nothing (hum, a jingle of few notes), and would cost the square of them."""
_FRAME, _HOP, _BANDS = 8192, 512, 25
_LOW_HZ, _HIGH_HZ = 250.0, 3500.0
_QUIET_DB = -55.0


def words_of(wave: np.ndarray) -> np.ndarray:
    """The words of a wave (N,) at 16 kHz, without repeats and in order: (n,) uint32."""
    if len(wave) < _FRAME + _HOP:
        return np.zeros(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(wave, _FRAME)[::_HOP]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(_FRAME).astype(np.float32))))
    bounds = np.geomspace(_LOW_HZ, _HIGH_HZ, _BANDS + 1) * _FRAME / SAMPLE_RATE
    energy = np.log(np.add.reduceat(power, bounds.round().astype(int), axis=1)[:, :_BANDS] + 1e-9)
    level = 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-20)
    grew = np.diff(energy[:, :-1] - energy[:, 1:], axis=0) > 0
    words = grew @ (1 << np.arange(_BANDS - 1, dtype=np.uint64))
    loud = level > max(_QUIET_DB, float(level.max()) - 40)
    words = words[loud[1:] & loud[:-1]].astype(np.uint32)
    return np.unique(words[(words * np.uint32(2654435761)) >> np.uint32(30) == 0])


def near_duplicates(words: Sequence[np.ndarray]) -> list[tuple[int, int, float]]:
    """Pairs (i, j, share of the shorter one's words) of recordings that share sound, i < j."""
    sizes = [len(one) for one in words]
    owners = np.repeat(np.arange(len(words)), sizes)
    if not sum(sizes):
        return []
    values = np.concatenate(words)
    order = np.argsort(values, kind="stable")
    values, owners = values[order], owners[order]
    starts = np.flatnonzero(np.diff(values, prepend=values[0] + np.uint32(1)))
    shared: dict[tuple[int, int], int] = {}
    for start, stop in zip(starts, [*starts[1:], len(values)], strict=True):
        if 1 < stop - start <= COMMON:
            for pair in combinations(owners[start:stop].tolist(), 2):
                shared[pair] = shared.get(pair, 0) + 1
    found = []
    for (one, other), count in sorted(shared.items()):
        least = min(sizes[one], sizes[other])
        if count >= max(FEWEST_SHARED, SHARED * least):
            found.append((one, other, count / least))
    return found
