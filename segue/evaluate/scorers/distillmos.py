"""DistillMOS: the quality of speech with no reference, 1 to 5.

Source: Stahl and Gamper 2025, Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality
Assessment (arXiv 2502.05356), by the package `distillmos`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import types

import numpy as np
import torch

from segue.evaluate.scorers.seam import Kind, Scorer, Tool

INSTALL = "pip install --no-deps distillmos xls-r-sqa"
"""With its dependencies it would bring a second build of torch's sound package."""


def scorer(kind: Kind) -> Scorer:
    """Of one wave."""
    return Scorer("distillmos", ("distillmos", "xls-r-sqa"), INSTALL, 16_000, _make)


def _make() -> Tool:
    stand_in = importlib.util.find_spec("torchaudio") is None  # the package asks for it but its model does without
    try:
        if stand_in:
            sys.modules["torchaudio"] = types.ModuleType("torchaudio")
        import distillmos
    finally:
        if stand_in:
            del sys.modules["torchaudio"]
    # it names its file of weights; its layers draw first weights before they get their own
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(devices=[]):
        model = distillmos.ConvTransformerSQAModel().eval()

    def measure(wave: np.ndarray) -> float:
        with torch.inference_mode():
            return float(model(torch.from_numpy(wave)[None]))

    return measure
