"""ViSQOL: the quality of sound against the original, 1 to 5, in the mode that suits the sound.

Never with the package's fallback mapping, which reads a point or two too high. Speech mode hears up to 8 kHz.

Source: Chinen et al. 2020, ViSQOL v3 (arXiv 2004.09584), by the package `visqol-python`.
"""

from __future__ import annotations

import warnings

import numpy as np

from segue.evaluate.scorers.seam import EVAL, Kind, Scorer, Tool


def scorer(kind: Kind) -> Scorer:
    """Of two waves, the original first."""
    speech = kind == "speech"
    rate = 16_000 if speech else 48_000

    def make() -> Tool:
        import visqol

        api = visqol.VisqolApi()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            api.create(mode="speech" if speech else "audio", use_lattice_model=True if speech else None)

        def measure(original: np.ndarray, made: np.ndarray) -> float:
            return float(api.measure_from_arrays(original.astype(float), made.astype(float), rate).moslqo)

        return measure

    packages = ("visqol-python", "ai-edge-litert") if speech else ("visqol-python",)
    return Scorer("visqol", packages, EVAL, rate, make, setting="speech" if speech else "audio")
