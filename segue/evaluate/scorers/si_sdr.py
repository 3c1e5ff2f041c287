"""SI-SDR: what is the original in a wave against what is not, in dB, whatever the level. It knows nothing of hearing.

Source: Le Roux et al. 2019, SDR - half-baked or well done? (arXiv 1811.02508), means removed; by the package
`torchmetrics`.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from segue.evaluate.scorers.seam import EVAL, Kind, Scorer, Tool


def scorer(kind: Kind) -> Scorer:
    """Of two waves, the original first; NaN where one is silent."""
    return Scorer("si_sdr", ("torchmetrics",), EVAL, 16_000, _make, least_seconds=0.01)


def _make() -> Tool:
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    def measure(original: np.ndarray, made: np.ndarray) -> float:
        if not original.any() or not made.any():
            return math.nan
        pair = (torch.from_numpy(np.asarray(wave, np.float64)) for wave in (made, original))
        return float(scale_invariant_signal_distortion_ratio(*pair, zero_mean=True))

    return measure
