"""DNSMOS: the quality of speech with no reference, 1 to 5: overall, of the speech, of what is behind it.

The model hears 9.01 s. Shorter sound is repeated to just that length; of longer sound it is the mean over its seconds.

Source: Reddy et al. 2022, DNSMOS P.835 (arXiv 2110.01763), by the package `speechmos`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from segue.evaluate.scorers.seam import EVAL, Kind, Scorer, Tool

_RATE = 16_000


def scorer(kind: Kind) -> Scorer:
    """Of one wave: `overall`, `speech` and `background`."""
    return Scorer("dnsmos", ("speechmos", "onnxruntime", "librosa"), EVAL, _RATE, _make)


def _make() -> Tool:
    import onnxruntime
    from speechmos import dnsmos

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # the package would take every core
    folder = Path(dnsmos.__file__).parent / "dnsmos_models"
    names = {"onnx_sess": "sig_bak_ovr.onnx", "p808_onnx_sess": "model_v8.onnx"}
    model = dnsmos.DNSMOS(*(str(folder / name) for name in names.values()))
    for attribute, name in names.items():
        setattr(model, attribute, onnxruntime.InferenceSession(str(folder / name), options))
    least = int(dnsmos.INPUT_LENGTH * _RATE)

    def measure(wave: np.ndarray) -> dict[str, float]:
        whole = np.tile(wave, math.ceil(least / len(wave)))[:least] if len(wave) < least else wave
        found = model(whole.clip(-1, 1), _RATE, False)
        names = {"overall": "ovrl_mos", "speech": "sig_mos", "background": "bak_mos"}
        return {name: float(found[key]) for name, key in names.items()}

    return measure
