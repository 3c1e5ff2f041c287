"""Results that are kept: what was made or scored once is read again, so that a stopped evaluation goes on.

A key is any JSON value that says all a result depends on (bundle, recording, seed, settings, versions of packages); the
file's name is its hash, and its content holds the key, so that a person can see what is what.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segue import audio
from segue.artifact import read_json, written_file
from segue.evaluate.section import plain

LONGEST_SECONDS = 24 * 3600.0


class Cache:
    """A folder of kept results.

    Args:
        folder: made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def value(self, key: Any, make: Callable[[], Any]) -> Any:
        """A JSON value, made if it isn't there. It is what JSON makes of it: None for NaN, lists for tuples.

        Raises:
            SegueError: if it can't be written, or what is there can't be read.
        """
        path = self.path(key, ".json")
        if not path.exists():
            kept = {"key": plain(key), "value": plain(make())}
            with written_file(path) as beside:
                beside.write_text(json.dumps(kept, allow_nan=False) + "\n")
        return read_json(path, "kept result")["value"]

    def wave(self, key: Any, sample_rate: int, make: Callable[[], Tensor]) -> Tensor:
        """A wave (N,) as 16-bit sound makes it, made if it isn't there.

        Raises:
            SegueError: if it can't be written, or what is there can't be read.
        """
        path = self.path(key, ".wav")
        if not path.exists():
            audio.write(path, make(), sample_rate)
        return torch.from_numpy(audio.read_crop(path, 0.0, LONGEST_SECONDS, sample_rate))

    def path(self, key: Any, suffix: str) -> Path:
        """Where a result is kept."""
        name = hashlib.sha256(json.dumps(plain(key), sort_keys=True, allow_nan=False).encode()).hexdigest()[:24]
        return self.folder / f"{name}{suffix}"
