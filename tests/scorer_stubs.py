"""Scorers that need no package, for tests of what the suites do with their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from segue.evaluate import scorers
from segue.evaluate.scorers.seam import Kind, Scorer


def loudness(*waves: np.ndarray) -> float:
    """Of the last wave."""
    return float(np.sqrt(np.square(waves[-1]).mean()))


def voice(wave: np.ndarray) -> list[float]:
    """An embedding of length 1: where the energy of the spectrum lies."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    bands = np.array([band.sum() for band in np.array_split(power[: len(power) // 4], 12)])
    return [float(value) for value in bands / max(float(np.linalg.norm(bands)), 1e-12)]


def words(wave: np.ndarray, language: str | None = None) -> dict[str, Any]:
    """A word for each 0.2 s, named by its loudest frequency; silence says nothing."""
    said = []
    for piece in np.array_split(wave, max(1, len(wave) // 3200)):
        if np.abs(piece).max(initial=0.0) > 1e-3:
            said.append(f"w{int(np.abs(np.fft.rfft(piece)).argmax()) // 20}")
    return {"text": " ".join(said), "language": language or "en"}


def notes(wave: np.ndarray) -> list[list[float]]:
    """A note for each 0.2 s, its pitch by its loudest frequency."""
    found = []
    for place, piece in enumerate(np.array_split(wave, max(1, len(wave) // 4410))):
        if np.abs(piece).max(initial=0.0) > 1e-3:
            found.append([0.2 * place, 0.2 * place + 0.2, int(np.abs(np.fft.rfft(piece)).argmax()) % 40 + 40, 0.5])
    return found


TOOLS: dict[str, Callable[..., Any]] = {
    "pesq": loudness,
    "stoi": loudness,
    "visqol": loudness,
    "si_sdr": loudness,
    "distillmos": loudness,
    "dnsmos": lambda wave: {"overall": 3.0, "speech": 3.5, "background": 4.0},
    "voice": voice,
    "words": words,
    "notes": notes,
    "tempo": lambda wave: 120.0,
}


def use(patch: pytest.MonkeyPatch, **changed: Callable[..., Any] | Exception) -> None:
    """Put stubs in place of all scorers; an exception in place of one says that it can't be made."""

    def maker(tool: Any) -> Callable[[], Any]:
        def make() -> Any:
            if isinstance(tool, Exception):
                raise tool
            return tool

        return make

    def scorer(name: str, kind: Kind) -> Scorer:
        tool = changed.get(name, TOOLS[name])
        rate = 22_050 if name in ("notes", "tempo") else 16_000
        return Scorer(name, (), f"pip install {name}", rate, maker(tool), least_seconds=0.1)

    patch.setattr(scorers, "scorer", scorer)
