"""Which files are kept from training where no folder of held-out sound is given: one in twenty, by their names."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from segue import audio

HELD_OUT_ONE_IN = 20


def held_out(path: Path) -> bool:
    """Whether a file is among those kept from training: one in twenty, by its name alone."""
    return zlib.crc32(path.name.encode()) % HELD_OUT_ONE_IN == 0


def everything(path: Path) -> bool:
    """Takes every file."""
    return True


def splits(folders: Sequence[Path]) -> tuple[Callable[[Path], bool], Callable[[Path], bool] | None]:
    """Which files to train on and which to hold out; nothing is held out of fewer than twenty files."""
    names = [path for folder in folders for path in audio.find(folder)]
    if len(names) < HELD_OUT_ONE_IN or not any(map(held_out, names)):
        return everything, None
    return (lambda path: not held_out(path)), held_out
