"""The scorers of a suite at work: each made when it is first needed, each value kept, and what went wrong told.

wave (n,) at the bundle's sample rate -> a scorer's value. A value is kept under the sound itself, the scorer, its
setting and the versions of its packages, so that it is found again whatever made the sound.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from segue import audio
from segue.errors import SegueError
from segue.evaluate import scorers
from segue.evaluate.cache import Cache
from segue.evaluate.scorers.seam import Kind, Scorer, Tool
from segue.evaluate.section import plain

_SILENT = 1e-5
"""No sample is larger: half a step of 16 bits."""


class Bench:
    """Scorers, ready to be asked.

    Args:
        names: of the scorers, see segue.evaluate.scorers.
        kind: of sound.
        sample_rate: of the waves, in Hz.
        cache: where values are kept; None keeps none.

    Attributes:
        versions: package -> version, of every scorer that gave a value.
        missing: scorer -> why it can't be used and what installs it.
        failed: scorer -> a line for each sound that it gave no value for.
    """

    def __init__(self, names: tuple[str, ...], kind: Kind, sample_rate: int, cache: Cache | None = None) -> None:
        self.kind = kind
        self.sample_rate = sample_rate
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        self.failed: dict[str, list[str]] = {}
        self._cache = cache
        self._scorers: dict[str, Scorer] = {name: scorers.scorer(name, kind) for name in names}
        self._tools: dict[str, Tool] = {}
        self._versions: dict[str, dict[str, str]] = {}
        for name, scorer in self._scorers.items():
            try:
                self._versions[name] = scorer.versions()
            except ImportError as error:
                self.missing[name] = scorer.why_not(error)

    def __call__(self, name: str, *waves: Tensor, **settings: Any) -> Any:
        """A scorer's value for a sound, or for an original and what was made of it.

        Args:
            name: of the scorer.
            waves: (n,) each; of two, the longer is cut to the other's length.
            settings: that the scorer takes.

        Returns:
            the value, or None where the scorer is missing, or has none for this sound (`failed` says why).

        Raises:
            SegueError: if what is kept can't be read or written.
        """
        if name in self.missing:
            return None
        scorer = self._scorers[name]
        length = min(len(wave) for wave in waves)
        cut = [wave[:length] for wave in waves]
        if length < scorer.least_seconds * self.sample_rate:
            self._tell(name, f"{length / self.sample_rate:.2f} s is too short, it takes {scorer.least_seconds:g}")
            return None
        if len(waves) == 2 and not float(cut[0].abs().max()) > _SILENT:
            self._tell(name, "the original is silent")
            return None

        def measured() -> dict[str, Any]:
            return self._measured(scorer, cut, settings)

        try:
            kept = self._cache.value(self._key(scorer, cut, settings), measured) if self._cache else measured()
        except _MissingError:
            return None
        if kept["value"] is None:
            self._tell(name, str(kept["failed"]))
            return None
        self.versions |= self._versions[name]
        return kept["value"]

    def ready(self) -> None:
        """Make every scorer now, so that all that is missing is known."""
        for name in [name for name in self._scorers if name not in self.missing]:
            try:
                self._tool(self._scorers[name])
            except _MissingError:
                continue
            self.versions |= self._versions[name]

    def has(self, name: str) -> bool:
        """Whether a scorer is among those asked for and may be there."""
        return name in self._scorers and name not in self.missing

    def number(self, name: str, *waves: Tensor, **settings: Any) -> float:
        """As a call, of a scorer that gives a number; NaN for None."""
        value = self(name, *waves, **settings)
        return math.nan if value is None else float(value)

    def vector(self, name: str, wave: Tensor) -> np.ndarray | None:
        """As a call, of a scorer that gives an embedding."""
        value = self(name, wave)
        return None if value is None else np.asarray(value, dtype=float)

    def notes(self, titles: Mapping[str, str]) -> list[str]:
        """A line for each scorer that gave no value for some sounds."""
        return [
            f"{titles.get(name, name)}: no value for {len(lines)} sounds, which are left out; the first: {lines[0]}"
            for name, lines in sorted(self.failed.items())
        ]

    def _tell(self, name: str, line: str) -> None:
        self.failed.setdefault(name, []).append(line)

    def _key(self, scorer: Scorer, waves: list[Tensor], settings: dict[str, Any]) -> dict[str, Any]:
        return {
            "scorer": scorer.name,
            "setting": scorer.setting,
            "settings": settings,
            "versions": self._versions[scorer.name],
            "sample_rate": self.sample_rate,
            "sound": [hashlib.sha256(wave.numpy().astype("<f4").tobytes()).hexdigest()[:32] for wave in waves],
        }

    def _measured(self, scorer: Scorer, waves: list[Tensor], settings: dict[str, Any]) -> dict[str, Any]:
        tool = self._tool(scorer)
        theirs = [audio.to_mono(wave.numpy(), self.sample_rate, scorer.sample_rate) for wave in waves]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a scorer that takes them for failures says so itself
                value = plain(tool(*theirs, **settings))
        except (ValueError, RuntimeError, ArithmeticError, IndexError, SegueError, Warning) as error:
            return {"value": None, "failed": f"{type(error).__name__}: {error}"}
        return {"value": value} if value is not None else {"value": None, "failed": "the score is no number"}

    def _tool(self, scorer: Scorer) -> Tool:
        if scorer.name not in self._tools:
            try:
                self._tools[scorer.name] = scorer.make()
            except (ImportError, Warning, SegueError) as error:
                self.missing[scorer.name] = scorer.why_not(error)
                raise _MissingError from error
        return self._tools[scorer.name]


class _MissingError(Exception):
    """A scorer can't be made, so there is nothing to keep."""
