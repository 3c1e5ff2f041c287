"""What is measured on: recordings of known speakers, taken in turn from a fair draw of them.

Sound is read when it is asked for, (N,) mono at the rate asked for, at most so many seconds from the beginning.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from segue import audio
from segue.data import shards, sources
from segue.data.items import Item, Sound, readable
from segue.errors import SegueError

_EACH = 5
MINIMUM_SECONDS = 1.0


@dataclass(frozen=True)
class Recording:
    """A recording to measure on.

    Attributes:
        item: where it lies, and what is told of it.
        speaker: number of its speaker, from 0.
        sound: its bytes, or its path.
        seconds: that are used.
    """

    item: Item
    speaker: int
    sound: Sound
    seconds: float

    def wave(self, sample_rate: int) -> Tensor:
        """(N,) mono.

        Raises:
            SegueError: if it can't be read.
        """
        return torch.from_numpy(audio.read_crop(readable(self.sound), 0.0, self.seconds, sample_rate))

    @property
    def notes(self) -> Path | None:
        """The MIDI file that it was rendered from, if one of its name lies beside it."""
        path = Path(self.item.path).with_suffix(".mid")
        return path if not self.item.member and path.is_file() else None


def choose(places: Sequence[Path], limit: int, seconds: float, seed: int) -> list[Recording]:
    """Recordings of known speakers: about five of each, speakers drawn at random.

    Args:
        places: folders, tar shards and JSONL manifests; speakers are told by a manifest.
        limit: recordings at most.
        seconds: of a recording, at most, from its beginning.
        seed: of the draw.

    Raises:
        SegueError: if there are fewer than two speakers, or a recording can't be read.
    """
    items, _ = sources.find(places)
    of: dict[str, list[Item]] = {}
    for item in items:
        if "speaker" in item.facts:
            of.setdefault(item.facts["speaker"], []).append(item)
    if len(of) < 2:
        raise SegueError(
            f"{', '.join(map(str, places))}: {len(items)} recordings and {len(of)} known speakers, at least 2 are "
            'needed; name them in a manifest.jsonl: {"path": ..., "speaker": ...}'
        )
    rng = random.Random(seed)
    names = rng.sample(sorted(of), min(len(of), max(2, limit // _EACH)))
    turns = {name: rng.sample(of[name], len(of[name])) for name in names}
    taken: list[Item] = []
    while len(taken) < limit and any(turns.values()):
        for name in names:
            if turns[name] and len(taken) < limit:
                taken.append(turns[name].pop())
    known = {name: number for number, name in enumerate(sorted(names))}
    found = []
    for item, sound in shards.sounds(sorted(taken, key=lambda item: item.id)):
        if isinstance(sound, SegueError):
            raise sound
        length = audio.duration_seconds(readable(sound))
        if length >= MINIMUM_SECONDS:
            found.append(Recording(item, known[item.facts["speaker"]], sound, min(length, seconds)))
    return found
