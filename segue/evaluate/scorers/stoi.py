"""STOI: how well speech can be understood, judged against the original, 0 to 1.

Source: Taal et al. 2011, An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy Speech, IEEE
Trans. ASLP 19(7); by the package `pystoi`.
"""

from __future__ import annotations

import warnings

import numpy as np

from segue.evaluate.scorers.seam import EVAL, Kind, Scorer, Tool

_RATE = 16_000


def scorer(kind: Kind) -> Scorer:
    """Of two waves, the original first."""
    return Scorer("stoi", ("pystoi",), EVAL, _RATE, _make)


def _make() -> Tool:
    import pystoi

    def measure(original: np.ndarray, made: np.ndarray) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # so that pystoi does not make up a score
            return float(pystoi.stoi(original, made, _RATE))

    return measure
