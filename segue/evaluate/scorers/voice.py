"""Whose voice it is: Resemblyzer's speaker embedding, of length 1. The cosine of two is about 0.8 for one voice and 0.5
for two.

Source: Wan et al. 2018, Generalized End-to-End Loss for Speaker Verification (arXiv 1710.10467), by `Resemblyzer`.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from segue.evaluate.scorers.seam import Kind, Scorer, Tool

INSTALL = "pip install --no-deps Resemblyzer; pip install librosa webrtcvad-wheels"


def scorer(kind: Kind) -> Scorer:
    """Of one wave: 256 numbers."""
    return Scorer("voice", ("Resemblyzer",), INSTALL, 16_000, _make)


def _make() -> Tool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the package's own imports
        import resemblyzer

    with torch.random.fork_rng(devices=[]):
        encoder: Any = resemblyzer.VoiceEncoder("cpu", verbose=False)

    def embed(wave: np.ndarray) -> list[float]:
        found = np.asarray(encoder.embed_utterance(wave), dtype=float)
        return [round(float(value), 6) for value in found / max(float(np.linalg.norm(found)), 1e-12)]

    return embed
