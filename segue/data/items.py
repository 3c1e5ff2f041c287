"""Recordings before they are tokenised: values that say where each one lies. No sound is read here."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

SHARDS_READ_FROM_THE_START = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
SHARDS = (".tar", *SHARDS_READ_FROM_THE_START)


@dataclass(frozen=True, slots=True)
class Item:
    """A recording: a sound file, or a sound file in a tar.

    Attributes:
        id: unlike any other's.
        path: of the sound file, or of the tar that holds it.
        folder: name of the folder that it comes from.
        facts: what is told of source, speaker, licence and consent.
        member: its name in the tar; empty for a file.
        offset: bytes before its first one in the tar, unpacked.
        size: of the member in bytes.
    """

    id: str
    path: str
    folder: str
    facts: dict[str, str]
    member: str = ""
    offset: int = 0
    size: int = 0

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else self.path

    @property
    def compressed(self) -> bool:
        """Whether it lies in a tar that can only be read from its start."""
        return bool(self.member) and self.path.lower().endswith(SHARDS_READ_FROM_THE_START)


@dataclass(frozen=True)
class Skipped:
    """Something that was left out.

    Attributes:
        id: of the item, or of the shard or line where there is no item.
        path: where it lies.
        reason: in words.
    """

    id: str
    path: str
    reason: str


class Member(io.BytesIO):
    """The bytes of a tar's member; in messages it goes by its name."""

    def __init__(self, data: bytes, title: str) -> None:
        super().__init__(data)
        self._title = title

    def __str__(self) -> str:
        return self._title


Sound = Path | Member


def readable(sound: Sound) -> Path:
    """What the readers of segue.audio take: they take bytes in memory as well as a path, here from the first one on."""
    if isinstance(sound, Member):
        sound.seek(0)
    return cast(Path, sound)


def groups(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """Items in groups of `size`; those of a compressed tar are a group of their own, for it is read in one go."""
    group: list[Item] = []
    for item in items:
        if group:
            apart = item.compressed or group[0].compressed
            if item.path != group[0].path if apart else len(group) >= size:
                yield group
                group = []
        group.append(item)
    if group:
        yield group
