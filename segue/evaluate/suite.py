"""What a suite is given and what it is: a function from a context to a section of the report.

wave (N,) mono at the bundle's sample rate. A suite asks the context for its recordings and for what was made of them,
keeps what it made and scored in the context's cache, and tells how far it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from segue.bundle import Bundle
from segue.evaluate.cache import Cache
from segue.evaluate.recordings import Recording
from segue.evaluate.section import Section

Kind = Literal["speech", "piano"]


@dataclass(frozen=True)
class Context:
    """What all suites share.

    Attributes:
        bundle: that is measured.
        recordings: held out, in a fixed order.
        kind: of sound: which measures make sense.
        out: folder of the report; suites put sounds into `sounds/` and pictures into `pictures/`.
        cache: of what was made and scored.
        seed: of every draw.
        prompt_seconds: of each recording, that are gone on with.
        seconds: that are made.
        tell: told what is being done, steps done and steps in all.
        places: folders, tar shards and manifests that the recordings are from, for a suite that has to draw others.
        limit: of recordings, likewise.
        options: what this suite alone was asked for, as plain JSON values; the report keeps them.
        pairs: folders of pairs, one of which should be likelier (segue.evaluate.pairs).
    """

    bundle: Bundle
    recordings: tuple[Recording, ...]
    kind: Kind
    out: Path
    cache: Cache
    seed: int = 0
    prompt_seconds: float = 3.0
    seconds: float = 7.0
    tell: Callable[[str, int, int], None] = lambda what, done, total: None
    places: tuple[Path, ...] = ()
    limit: int = 40
    options: Mapping[str, Any] = field(default_factory=dict)
    pairs: tuple[Path, ...] = ()

    @property
    def groups(self) -> list[int]:
        """What the bootstrap draws, a number a recording: its speaker, or itself where speakers aren't told."""
        return [recording.group for recording in self.recordings]


class Suite(Protocol):
    """A suite: measures a bundle on recordings.

    Raises:
        SegueError: if the recordings can't be used at all. What a missing package measures is told in the section.
    """

    def __call__(self, context: Context) -> Section: ...
