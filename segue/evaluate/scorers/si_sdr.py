"""SI-SDR: what is the original in a wave against what is not, in dB, whatever the level. It knows nothing of hearing.

Source: Le Roux et al. 2019, SDR - half-baked or well done? (arXiv 1811.02508), means removed.
"""

from __future__ import annotations

import math

import numpy as np

from segue.evaluate.scorers.seam import Kind, Scorer, Tool


def si_sdr_db(original: np.ndarray, made: np.ndarray) -> float:
    """Of two waves (n,) in dB; NaN where one is silent, infinite where they are alike."""
    original, made = original - original.mean(dtype=float), made - made.mean(dtype=float)
    energy = float(np.dot(original, original))
    target = original * (np.dot(made, original) / energy) if energy else original
    said, rest = float(np.square(target).sum()), float(np.square(target - made).sum())
    if not said:
        return math.nan
    return 10 * math.log10(said / rest) if rest else math.inf


def scorer(kind: Kind) -> Scorer:
    """Of two waves, the original first."""
    return Scorer("si_sdr", (), "", 16_000, _make, least_seconds=0.01)


def _make() -> Tool:
    return si_sdr_db
