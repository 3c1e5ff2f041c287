"""What is measured on: recordings of known speakers, taken in turn from a fair draw of them.

Sound is read when it is asked for, (N,) mono at the rate asked for, at most so many seconds from the beginning.
"""

from __future__ import annotations

import functools
import hashlib
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
        speaker: number of its speaker, from 0; -1 where nobody told.
        sound: its bytes, or its path.
        seconds: that are used.
        group: what a bootstrap draws: recordings of one speaker have one number, and one whose speaker isn't told, or
            isn't who plays, its own.
    """

    item: Item
    speaker: int
    sound: Sound
    seconds: float
    group: int = 0

    def wave(self, sample_rate: int) -> Tensor:
        """(N,) mono.

        Raises:
            SegueError: if it can't be read.
        """
        return torch.from_numpy(audio.read_crop(readable(self.sound), 0.0, self.seconds, sample_rate))

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of its file."""
        content = self.sound.read_bytes() if isinstance(self.sound, Path) else self.sound.getvalue()
        return hashlib.sha256(content).hexdigest()

    @property
    def identity(self) -> list[str]:
        """What a cache is to know it by: its name, which another folder's may have too, and what it holds."""
        return [self.item.id, self.digest[:16]]

    @property
    def notes(self) -> Path | None:
        """The MIDI file that it was rendered from, if one of its name lies beside it."""
        path = Path(self.item.path).with_suffix(".mid")
        return path if not self.item.member and path.is_file() else None


def choose(places: Sequence[Path], limit: int, seconds: float, seed: int) -> list[Recording]:
    """Recordings of known speakers: about five of each, speakers drawn at random, of those with five if they suffice.

    Args:
        places: folders, tar shards and JSONL manifests; speakers are told by a manifest.
        limit: recordings at most.
        seconds: of a recording, at most, from its beginning.
        seed: of the draw.

    Raises:
        SegueError: if there are fewer than two speakers, with sound of a second or more, or a recording can't be read.
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
    wanted = min(len(of), max(2, limit // _EACH))
    able = [name for name in sorted(of) if len(of[name]) >= _EACH]
    names = rng.sample(able if len(able) >= wanted else sorted(of), wanted)
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
    if len({one.speaker for one in found}) < 2:
        raise SegueError(
            f"{', '.join(map(str, places))}: of {len(taken)} recordings drawn, those of {MINIMUM_SECONDS:g} s or more "
            "have fewer than 2 speakers; give longer ones"
        )
    return found


def held_out(
    places: Sequence[Path],
    limit: int,
    seconds: float,
    seed: int,
    least_seconds: float = MINIMUM_SECONDS,
    by_speaker: bool = True,
) -> tuple[list[Recording], list[str]]:
    """Recordings of whomever there is, taken in turn from speakers; those whose speaker isn't told have one turn, too.

    Args:
        places: folders, tar shards and JSONL manifests.
        limit: recordings at most.
        seconds: of a recording, at most, from its beginning.
        seed: of the draw.
        least_seconds: that a recording must be long.
        by_speaker: whether recordings of one speaker go together; for instruments they don't.

    Returns:
        the recordings, in an order that doesn't depend on the draw, and a line for each that can't be read.

    Raises:
        SegueError: if nothing is long enough.
    """
    items, skipped = sources.find(places)
    told = [f"{one.id}: left out: {one.reason}" for one in skipped]
    of: dict[str, list[Item]] = {}
    for item in items:
        known = _is_told(item, by_speaker)
        of.setdefault(f"speaker {item.facts['speaker']}" if known else item.id, []).append(item)
    rng = random.Random(seed)
    names = rng.sample(sorted(of), len(of))
    drawn = [rng.sample(of[name], len(of[name])) for name in names]
    alone = [item for own in drawn for item in own if not _is_told(item, by_speaker)]
    turns = [own for own in drawn if _is_told(own[0], by_speaker)] + ([alone] if alone else [])
    queue = [own[turn] for turn in range(max(map(len, turns), default=0)) for own in turns if turn < len(own)]
    numbers = {item.id: number for number, name in enumerate(sorted(of)) for item in of[name]}
    found: list[Recording] = []
    while queue and len(found) < limit:
        now, queue = queue[: limit - len(found)], queue[limit - len(found) :]
        for item, sound in shards.sounds(now):
            try:
                if isinstance(sound, SegueError):
                    raise sound
                length = audio.duration_seconds(readable(sound))
            except SegueError as error:
                told.append(f"{item.id}: left out: {error}")
                continue
            if length >= least_seconds:
                number = numbers[item.id]
                speaker = number if _is_told(item, by_speaker) else -1
                found.append(Recording(item, speaker, sound, min(length, seconds), number))
    if not found:
        where = ", ".join(map(str, places))
        raise SegueError(f"{where}: none of {len(items)} recordings is {least_seconds:g} s long and can be read")
    return sorted(found, key=lambda one: one.item.id), told


def _is_told(item: Item, by_speaker: bool) -> bool:
    """Whether a recording goes together with others of its speaker."""
    return by_speaker and "speaker" in item.facts


def fingerprint(recordings: Sequence[Recording]) -> str:
    """SHA-256 over what the recordings hold, how much of each is used and whose they are, as 16 hex digits.

    Where they lie and what they are called makes no difference.
    """
    numbers: dict[int, int] = {}
    digest = hashlib.sha256()
    for recording in recordings:
        whose = numbers.setdefault(recording.group, len(numbers))
        digest.update(f"{recording.digest} {recording.seconds:.6f} {whose}\n".encode())
    return digest.hexdigest()[:16]
