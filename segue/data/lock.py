"""One run at a time may write to a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from segue.errors import SegueError

_NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within, no other run that asks gets the folder; the system takes the lock back from a process that dies.

    Where the system or the disk knows no locks, nothing is locked.

    Raises:
        SegueError: if another run has it, or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / _NAME, "w")  # noqa: SIM115
    except OSError as error:
        raise SegueError(f"{folder}: can't be written ({error.strerror or error}); check folder and space") from error
    with file:
        if not _lock(file):
            raise SegueError(f"{folder}: another run is writing there; wait for it or give another folder")
        yield


def is_locked(folder: Path) -> bool:
    """Whether some run has the folder, or had it: what a process on another machine can see of it."""
    return (folder / _NAME).exists()


def _lock(file: IO[str]) -> bool:
    """Whether it is ours now, or as free as it can be known to be."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
