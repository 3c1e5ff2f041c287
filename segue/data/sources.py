"""Where recordings lie: folders, tar shards and JSONL manifests, in any mix, as one list of items.

An item's id is FOLDER/path, FOLDER being the name of the folder that was given or that holds the manifest; that of a
tar's member is FOLDER/shard.tar/path. Sources that are added later change no id.

Facts (source, speaker, licence, consent) come from the manifest that was given, from a `manifest.jsonl` in a folder or
tar (`path` relative to it), or from the `.json` beside a tar's member, as WebDataset has it. A line of a manifest may
name a shard: its facts are those of every member that tells none of its own.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from segue import audio
from segue.data import shards
from segue.data.items import SHARDS, Item, Skipped
from segue.data.manifests import MANIFEST, facts, read_manifest, rows
from segue.errors import SegueError


def find(sources: Sequence[Path]) -> tuple[list[Item], list[Skipped]]:
    """Every recording under `sources`, in a fixed order, and what is named there but can't be had.

    Args:
        sources: folders (searched for sound files), tar shards, JSONL manifests, single sound files.

    Raises:
        SegueError: if a source is missing or of no known kind, a folder holds nothing but shards, a manifest can't be
            read, or two recordings have one id.
    """
    items: dict[str, Item] = {}
    skipped: list[Skipped] = []
    for source in sources:
        for entry in _of(source):
            if isinstance(entry, Skipped):
                skipped.append(entry)
                continue
            first = items.setdefault(entry.id, entry)
            if first is not entry and _place(first) != _place(entry):
                raise SegueError(
                    f"{first} and {entry} have one id, {entry.id}; rename a folder or give ids in a manifest"
                )
            items[entry.id] = replace(first, facts=first.facts | entry.facts)
    return list(items.values()), skipped


def _of(source: Path) -> Iterator[Item | Skipped]:
    if source.is_dir():
        return _in_folder(source)
    if not source.exists():
        raise SegueError(f"{source}: no such folder, tar shard or manifest")
    if source.suffix.lower() == ".jsonl":
        return _in_manifest(source)
    if _is_known(source):
        label = _label(source.parent)
        return _at(source, f"{label}/{source.name}", label, {})
    raise SegueError(f"{source}: give a folder, a tar shard ({', '.join(SHARDS)}) or a manifest (.jsonl)")


def _in_folder(folder: Path) -> Iterator[Item | Skipped]:
    label, told = _label(folder), read_manifest(folder)
    empty = True
    for path in audio.find(folder):
        empty, name = False, path.relative_to(folder).as_posix()
        yield Item(f"{label}/{name}", str(path), label, facts(told.get(name, {}), folder / MANIFEST))
    tars = sorted(path for path in folder.rglob("*") if shards.is_shard(path) and path.is_file())
    if tars and empty:
        raise SegueError(f"{folder}: no sound files but {len(tars)} tar shards; give those: {tars[0].parent}/*.tar")
    for path in tars:
        name = path.relative_to(folder).as_posix()
        yield Skipped(f"{label}/{name}", str(path), "a tar shard among sound files; give it by itself")


def _in_manifest(manifest: Path) -> Iterator[Item | Skipped]:
    label = _label(manifest.parent)
    for row in rows(manifest):
        path = manifest.parent / row["path"]
        name = posixpath.normpath(Path(row["path"]).as_posix()).lstrip("/")
        key = str(row.get("id") or f"{label}/{name}")
        if _is_known(path):
            yield from _at(path, key, label, facts(row, manifest))
        else:
            yield Skipped(key, str(path), "neither a sound file nor a tar shard, by its name")


def _at(path: Path, key: str, label: str, told: dict[str, str]) -> Iterator[Item | Skipped]:
    """The items of one sound file or shard."""
    if not path.is_file():
        yield Skipped(key, str(path), "no such file")
    elif shards.is_shard(path):
        yield from shards.members(path, key, label, told)
    else:
        yield Item(key, str(path), label, told)


def _is_known(path: Path) -> bool:
    return shards.is_shard(path) or path.suffix.lower() in audio.SUFFIXES


def _label(folder: Path) -> str:
    return os.path.basename(os.path.abspath(folder)) or "root"


def _place(item: Item) -> tuple[str, str]:
    return os.path.realpath(item.path), item.member
