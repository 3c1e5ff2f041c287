"""How near a made wave is to the original: PESQ, ViSQOL and the similarity of the voices, each by its own package.

original (N,), made (N,) at one sample rate -> score. What is not installed is told with the command that installs it.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segue import audio
from segue.errors import SegueError

Measure = Callable[[Tensor, Tensor], float]
_EVAL = 'pip install "segue[eval]"'
_VOICES = "pip install --no-deps Resemblyzer; pip install librosa webrtcvad-wheels"
INSTALL = {"pesq": _EVAL, "visqol-python": _EVAL, "Resemblyzer": _VOICES}
COLUMNS = {"pesq": "pesq", "visqol": "visqol-python", "speaker_similarity": "Resemblyzer"}
_RATE = 16_000


class Scorers:
    """The measures that can be taken here.

    Args:
        speech: whether the sound is speech; PESQ and voices are measured of speech alone.
        sample_rate: of the waves, in Hz.

    Attributes:
        measures: name -> measure.
        versions: package -> its version.
        missing: measure -> why it can't be taken and what installs it.
    """

    def __init__(self, speech: bool, sample_rate: int) -> None:
        self.measures: dict[str, Measure] = {}
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        makers: dict[str, Callable[[bool, int], Measure]] = {"visqol": _visqol}
        if speech:
            makers = {"pesq": _pesq, **makers, "speaker_similarity": _voices}
        for name, maker in makers.items():
            package = COLUMNS[name]
            try:
                self.measures[name] = maker(speech, sample_rate)
            except (ImportError, Warning) as error:
                self.missing[name] = f"{package} can't be used ({error}); {INSTALL[package]}"
                continue
            self.versions[package] = importlib.metadata.version(package)

    def __call__(self, original: Tensor, made: Tensor) -> dict[str, float]:
        """Every measure by name; NaN where a package gives none for this sound, as PESQ does for silence."""
        scores = {}
        for name, measure in self.measures.items():
            try:
                scores[name] = measure(original, made)
            except (ValueError, RuntimeError, SegueError):
                scores[name] = float("nan")
        return scores


def _pesq(speech: bool, rate: int) -> Measure:
    import pesq

    def measure(original: Tensor, made: Tensor) -> float:
        return float(pesq.pesq(_RATE, _at(original, rate, _RATE), _at(made, rate, _RATE), "wb"))

    return measure


def _visqol(speech: bool, rate: int) -> Measure:
    """In the mode that suits the sound, and never with the fallback mapping, which reads a point or two too high."""
    import visqol

    wanted, api = (_RATE if speech else 48_000), visqol.VisqolApi()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        api.create(mode="speech" if speech else "audio", use_lattice_model=True if speech else None)

    def measure(original: Tensor, made: Tensor) -> float:
        pair = [_at(wave, rate, wanted).astype(float) for wave in (original, made)]
        return float(api.measure_from_arrays(*pair, wanted).moslqo)

    return measure


def _voices(speech: bool, rate: int) -> Measure:
    """Cosine of the speaker embeddings: Resemblyzer's, about 0.8 for one voice and 0.5 for two."""
    import resemblyzer

    with torch.random.fork_rng(devices=[]):
        encoder: Any = resemblyzer.VoiceEncoder("cpu", verbose=False)

    def measure(original: Tensor, made: Tensor) -> float:
        pair = [encoder.embed_utterance(_at(wave, rate, _RATE)) for wave in (original, made)]
        return float(np.dot(*pair) / (np.linalg.norm(pair[0]) * np.linalg.norm(pair[1])))

    return measure


def _at(wave: Tensor, rate: int, wanted: int) -> np.ndarray:
    return audio.to_mono(wave.numpy(), rate, wanted)
