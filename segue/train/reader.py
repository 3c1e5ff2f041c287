"""Batches in order, read ahead by threads while a step works on the one before."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

READERS = 4
"""Batches read ahead, each by a thread of its own."""


class Batches(Protocol):
    """Batches by number."""

    def __call__(self, step: int, rows: slice = ..., /) -> Any:
        """Batch `step`, or those rows of it."""


class Reader:
    """A row of batches from one on; within `with` it reads ahead.

    Args:
        batches: by number.
        rows: of each, that are wanted.
        step: number of the first.

    Attributes:
        waited: seconds the last batch was not there yet when it was wanted.
    """

    def __init__(self, batches: Batches, rows: slice, step: int) -> None:
        self._batches, self._rows, self._next = batches, rows, step
        self.waited = 0.0

    def __enter__(self) -> Reader:
        self._pool = ThreadPoolExecutor(max_workers=READERS)
        self._ahead = deque(self._submit() for _ in range(READERS))
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _submit(self) -> Future[Any]:
        self._next += 1
        return self._pool.submit(self._batches, self._next - 1, self._rows)

    def next(self) -> Any:
        """The next batch."""
        began = time.perf_counter()
        batch = self._ahead.popleft().result()
        self._ahead.append(self._submit())
        self.waited = time.perf_counter() - began
        return batch
