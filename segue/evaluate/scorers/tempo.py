"""How fast a piece is: librosa's global tempo.

Source: Ellis 2007, Beat Tracking by Dynamic Programming, J. New Music Research 36(1); by the package `librosa`.
"""

from __future__ import annotations

import numpy as np

from segue.evaluate.scorers.seam import EVAL, Kind, Scorer, Tool

_RATE = 22_050


def scorer(kind: Kind) -> Scorer:
    """Of one wave: beats a minute."""
    return Scorer("tempo", ("librosa",), EVAL, _RATE, _make, least_seconds=3.0)


def _make() -> Tool:
    import librosa

    def measure(wave: np.ndarray) -> float:
        return float(np.ravel(librosa.feature.tempo(y=wave, sr=_RATE))[0])

    return measure
