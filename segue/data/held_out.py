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


def splits(folders: Sequence[Path]) -> tuple[Callable[[Path], bool], list[Path]]:
    """Which files to train on, and the folders of which `held_out` files are kept from it.

    Nothing is held out of fewer than twenty files, nor of a folder whose files would all be held out or none.
    """
    files = {folder: list(audio.find(folder)) for folder in folders}
    if sum(map(len, files.values())) < HELD_OUT_ONE_IN:
        return everything, []
    apart = [folder for folder, own in files.items() if len({held_out(path) for path in own}) == 2]
    kept = {path.resolve() for folder in apart for path in files[folder] if held_out(path)}
    return (lambda path: path.resolve() not in kept), apart
