"""Sound in tar files: what a shard holds, and its members read into memory. Nothing is unpacked to disk.

A plain tar is read where its members lie; a compressed one can only be read from its start, in one go.
"""

from __future__ import annotations

import json
import lzma
import operator
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

from segue import audio
from segue.data.items import SHARDS, Item, Member, Skipped, Sound, groups
from segue.data.manifests import FACTS, MANIFEST, facts, parsed
from segue.errors import SegueError

_DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)
_LARGEST_SIDECAR = 2**20


def is_shard(path: Path) -> bool:
    """Whether it is a tar, by its name."""
    return path.name.lower().endswith(SHARDS) and not path.is_dir()


def members(path: Path, key: str, folder: str, told: dict[str, str]) -> Iterator[Item | Skipped]:
    """The sound files of a tar; of two with one name the later one counts, as for tar itself.

    Args:
        path: of the tar.
        key: what its members' ids begin with.
        folder: the name of the folder that it comes from.
        told: facts of every member that tells none of its own.

    Raises:
        SegueError: if a `manifest.jsonl` in it can't be read.
    """
    found: dict[str, Item] = {}
    own: dict[str, dict[str, str]] = {}
    damage: Exception | None = None
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                name = posixpath.normpath(member.name).lstrip("/")
                base, suffix = posixpath.splitext(name)
                if not member.isreg():
                    continue
                if suffix.lower() in audio.SUFFIXES:
                    found.pop(name, None)
                    at = (name, member.offset_data, member.size)
                    found[name] = Item(f"{key}/{name}", str(path), folder, told, *at)
                elif posixpath.basename(name) == MANIFEST:
                    place, inside = f"{path}/{name}", posixpath.dirname(name)
                    for row in parsed(_bytes(tar, member), place):
                        own[posixpath.normpath(posixpath.join(inside, row["path"])).lstrip("/")] = facts(row, place)
                elif suffix.lower() == ".json" and member.size <= _LARGEST_SIDECAR:
                    own[base] = _sidecar(_bytes(tar, member))
    except _DAMAGE as error:
        damage = error
    for name, item in found.items():
        levels = (own.get(known, {}) for known in (_sample(name), posixpath.splitext(name)[0], name))
        yield replace(item, facts=reduce(operator.or_, levels, told))
    if damage is not None:
        yield Skipped(key, str(path), f"a damaged tar, read as far as it goes ({damage})")


def sounds(items: Sequence[Item]) -> Iterator[tuple[Item, Sound | SegueError]]:
    """Each item with its sound, or with the reason why it can't be had. One member at a time is in memory.

    Args:
        items: those of one compressed tar stand together.
    """
    for group in groups(items, 1):
        if group[0].compressed:
            yield from _streamed(group)
        else:
            item = group[0]
            yield item, _cut_out(item) if item.member else Path(item.path)


def _cut_out(item: Item) -> Sound | SegueError:
    try:
        with open(item.path, "rb") as file:
            file.seek(item.offset)
            return _whole(item, file.read(item.size))
    except OSError as error:
        return SegueError(f"{item}: can't be read ({error.strerror or error})")


def _streamed(items: Sequence[Item]) -> Iterator[tuple[Item, Sound | SegueError]]:
    """Members of one compressed tar, in its order."""
    wanted = {item.offset: item for item in items}
    reason = "it was changed meanwhile"
    try:
        with tarfile.open(items[0].path, "r|*") as tar:
            for member in tar:
                item = wanted.pop(member.offset_data, None)
                if item is not None:
                    try:
                        sound = _whole(item, _bytes(tar, member))
                    except _DAMAGE as error:
                        sound = SegueError(f"{item}: can't be read from the tar ({error})")
                    yield item, sound
                if not wanted:
                    break
    except _DAMAGE as error:
        reason = str(error)
    for item in wanted.values():
        yield item, SegueError(f"{item}: can't be read from the tar ({reason})")


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, member.name
    return file.read()


def _whole(item: Item, data: bytes) -> Sound | SegueError:
    if len(data) < item.size:
        return SegueError(f"{item}: the tar ends after {len(data)} of its {item.size} bytes")
    return Member(data, str(item))


def _sidecar(data: bytes) -> dict[str, str]:
    """Facts in the `.json` beside a member, which may hold anything else besides."""
    try:
        row = json.loads(data)
    except ValueError:
        return {}
    values = {key: row.get(key) for key in FACTS} if isinstance(row, dict) else {}
    return {key: str(value) for key, value in values.items() if value and isinstance(value, str | int)}


def _sample(name: str) -> str:
    """`a/b.left.flac` -> `a/b`: what WebDataset calls the key of a sample."""
    folder, base = posixpath.split(name)
    return posixpath.join(folder, base.split(".")[0])
