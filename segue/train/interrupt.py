"""Ctrl-C and a scheduler's SIGTERM: asked to stop, a run ends its step first, so that its state is a whole one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

AT_ONCE_AFTER = 1.0
"""Seconds from the first signal; those that come sooner are the same one, handed on by a launcher."""


@contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
    """Within, a signal is only noted; a second Ctrl-C interrupts at once. Other threads than the main one note none.

    Yields:
        whether a stop was asked for.
    """
    asked: list[float] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and asked and time.monotonic() > asked[0] + AT_ONCE_AFTER:
            raise KeyboardInterrupt
        asked.append(time.monotonic())

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
