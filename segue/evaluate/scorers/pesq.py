"""PESQ in wide band: the quality of speech against the original, 1 to 4.6.

Source: ITU-T P.862.2 (2007), by the package `pesq`.
"""

from __future__ import annotations

import numpy as np

from segue.evaluate.scorers.seam import EVAL, Kind, Scorer, Tool

_RATE = 16_000


def scorer(kind: Kind) -> Scorer:
    """Of two waves, the original first."""
    return Scorer("pesq", ("pesq",), EVAL, _RATE, _make, setting="wb")


def _make() -> Tool:
    import pesq

    def measure(original: np.ndarray, made: np.ndarray) -> float:
        return float(pesq.pesq(_RATE, original, made, "wb"))

    return measure
