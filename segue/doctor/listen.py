"""Going through recordings: the header of every one, and the sound of as many as there is time for, drawn at random."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from segue import audio
from segue.audio import Header
from segue.data import shards
from segue.data.items import Item, Skipped, Sound, groups, readable
from segue.data.voice import speech_finder
from segue.doctor.effort import Effort
from segue.doctor.fingerprint import SAMPLE_RATE, words_of
from segue.doctor.sound import SoundFacts, facts_of
from segue.errors import SegueError

HEARD_SECONDS = 30.0
"""Of a recording, from its middle: enough for its level, room and edge of bandwidth."""
SPEECH_TIME = 0.25
"""Share of the time that finding speech may take: it is a hundred times slower than all the rest."""


@dataclass(frozen=True)
class Heard:
    """A stretch that was listened to: its facts, seconds, fingerprint (n,), and seconds of speech; -1 is not asked."""

    facts: SoundFacts
    seconds: float
    words: np.ndarray
    speech_seconds: float = -1.0


@dataclass
class Heardings:
    """What came of it, in the order of the recordings.

    Attributes:
        items: recordings that can be used.
        headers: of each.
        heard: index -> what it sounds like.
        skipped: what can't be used.
    """

    items: list[Item]
    headers: list[Header]
    heard: dict[int, Heard]
    skipped: list[Skipped]

    @property
    def seconds(self) -> float:
        """Of all together."""
        return sum(header.seconds for header in self.headers)


def listen(items: Sequence[Item], effort: Effort) -> Heardings:
    """Go through recordings; what can't be read is kept with the reason."""
    order = list(groups(items, 1))
    np.random.default_rng(effort.seed).shuffle(order)
    until = time.monotonic() + effort.seconds
    find_speech = None if effort.quick else _finder()
    found: dict[str, tuple[Item, Header, Heard | None]] = {}
    skipped: list[Skipped] = []
    speech_time = 0.0
    sounds = (pair for group in order for pair in shards.sounds(group))
    for done, (item, sound) in enumerate(sounds, start=1):
        try:
            if isinstance(sound, SegueError):
                raise sound
            header = audio.header(readable(sound))
            if header.seconds < audio.MINIMUM_SECONDS:
                raise SegueError(f"{item}: {header.seconds:.3f} s, at least {audio.MINIMUM_SECONDS} s are needed")
            one = None
            if time.monotonic() < until or not found:
                wave, rate = _middle(sound, header)
                audio.check(wave, rate, str(item))
                mono = audio.to_mono(wave, rate, SAMPLE_RATE)
                speech = -1.0
                if find_speech is not None and speech_time <= SPEECH_TIME * effort.seconds:
                    began = time.monotonic()
                    speech = sum(stop - start for start, stop in find_speech(torch.from_numpy(mono)))
                    speech_time += time.monotonic() - began
                one = Heard(facts_of(wave, rate), len(wave) / rate, words_of(mono), speech)
            found[item.id] = (item, header, one)
        except SegueError as error:
            skipped.append(Skipped(item.id, str(item), str(error)))
        effort.told("listen", done, len(items))
    kept = [found[item.id] for item in items if item.id in found]
    heard = {index: one for index, (_, _, one) in enumerate(kept) if one is not None}
    return Heardings([item for item, _, _ in kept], [header for _, header, _ in kept], heard, skipped)


def _middle(sound: Sound, header: Header) -> tuple[np.ndarray, int]:
    start = max(0.0, (header.seconds - HEARD_SECONDS) / 2)
    return audio.read_as_is(readable(sound), start, HEARD_SECONDS)


def _finder():  # type: ignore[no-untyped-def]
    try:
        return speech_finder()
    except SegueError:
        return None  # silence is told by energy alone


def same_bytes(items: Sequence[Item], effort: Effort) -> list[list[Item]]:
    """Groups of recordings with the same bytes; only those of one size are read."""
    by_size: dict[int, list[Item]] = {}
    for item in items:
        by_size.setdefault(item.size if item.member else _size(item.path), []).append(item)
    alike = [item for group in by_size.values() if len(group) > 1 for item in group]
    by_digest: dict[str, list[Item]] = {}
    for group in effort.while_it_lasts("compare", list(groups(alike, 1))):
        for item, sound in shards.sounds(group):
            digest = _digest(sound)
            if digest:
                by_digest.setdefault(digest, []).append(item)
    return [group for group in by_digest.values() if len(group) > 1]


def _size(path: str) -> int:
    return Path(path).stat().st_size


def _digest(sound: Sound | SegueError) -> str:
    if isinstance(sound, SegueError):
        return ""
    given = readable(sound)
    if hasattr(given, "getvalue"):
        return hashlib.sha256(given.getvalue()).hexdigest()
    with open(given, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
