"""Which notes are played: onset, end, pitch and strength of each, heard by basic-pitch.

Source: Bittner et al. 2022, A Lightweight Instrument-Agnostic Model for Polyphonic Note Transcription and Multipitch
Estimation (arXiv 2203.09893), by the package `basic-pitch` with its ONNX weights.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from segue import audio
from segue.evaluate.scorers.seam import Kind, Scorer, Tool

INSTALL = "pip install --no-deps basic-pitch resampy; pip install librosa onnxruntime pretty_midi mir_eval scikit-learn"
"""With its dependencies it would bring TensorFlow."""
_RATE = 22_050


def scorer(kind: Kind) -> Scorer:
    """Of one wave: [onset, end in seconds, MIDI pitch, strength in 0 .. 1] of each note, in order."""
    return Scorer("notes", ("basic-pitch", "onnxruntime", "resampy"), INSTALL, _RATE, _make)


def _make() -> Tool:
    with _quiet():
        from basic_pitch import inference

        weights = importlib.metadata.distribution("basic-pitch").locate_file("basic_pitch/saved_models/icassp_2022")
        model = inference.Model(Path(str(weights)) / "nmp.onnx")

    def transcribe(wave: np.ndarray) -> list[list[float]]:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            path = Path(folder) / "wave.wav"
            audio.write(path, torch.from_numpy(wave), _RATE)
            _, _, events = inference.predict(path, model)
        return sorted([float(start), float(end), int(pitch), float(power)] for start, end, pitch, power, _ in events)

    return transcribe


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The package prints what it does, and logs which backends of its model are not there."""
    logger, before = logging.getLogger(), logging.getLogger().level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
