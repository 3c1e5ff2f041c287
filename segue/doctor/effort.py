"""How long the doctor may take: a budget of seconds for each of its longer checks, and whom to tell of progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from segue.errors import SegueError

T = TypeVar("T")
Told = Callable[[str, int, int], None]
QUICK_SECONDS = 5.0


@dataclass(frozen=True)
class Effort:
    """How thorough to be.

    Attributes:
        seconds: for each of the longer checks; infinity looks at everything.
        quick: leave out what trains.
        seed: of what is drawn where not all can be looked at.
        told: check, done and in all.
    """

    seconds: float = 60.0
    quick: bool = False
    seed: int = 0
    told: Told = lambda check, done, total: None

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= math.inf:
            raise SegueError(f"seconds {self.seconds}: more than 0")

    def while_it_lasts(self, check: str, things: Sequence[T], share: float = 1.0) -> Iterator[T]:
        """Things one by one, the first in any case, until the check's time is up; told of as they are done."""
        until = time.monotonic() + self.seconds * share
        for done, thing in enumerate(things):
            if done and time.monotonic() > until:
                self.told(check, len(things), len(things))
                return
            yield thing
            self.told(check, done + 1, len(things))

    def all_of(self, check: str, things: Sequence[T]) -> Iterable[T]:
        """All things, told of as they are done."""
        return Effort(math.inf, self.quick, self.seed, self.told).while_it_lasts(check, things)
