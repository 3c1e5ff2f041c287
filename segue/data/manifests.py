"""JSONL manifests: a line {"path": ..., "source": ..., "speaker": ..., "licence": ..., "consent": ...} a recording.

`text`, what is said, serves for measuring alone.
"""

from __future__ import annotations

import json
import posixpath
from pathlib import Path
from typing import Any

from segue.errors import SegueError

MANIFEST = "manifest.jsonl"
FACTS = ("source", "speaker", "licence", "consent", "text")


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """`path` in its shortest form -> facts, from the `manifest.jsonl` of a folder; empty where there is none.

    Raises:
        SegueError: if a line is no JSON object with a `path`.
    """
    path = folder / MANIFEST
    return {posixpath.normpath(row["path"]): row for row in rows(path)} if path.is_file() else {}


def rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a manifest.

    Raises:
        SegueError: if it can't be read, or a line is no JSON object with a `path`.
    """
    try:
        return parsed(path.read_bytes(), str(path))
    except OSError as error:
        raise SegueError(f"{path}: can't be read ({error.strerror or error})") from error


def parsed(text: bytes, name: str) -> list[dict[str, Any]]:
    """The lines of a manifest as it was read from `name`; empty ones are passed over.

    Raises:
        SegueError: if a line is no JSON object with a `path`.
    """
    found = []
    for number, line in enumerate(text.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row["path"], str):
                raise TypeError("path is no text")
        except (ValueError, KeyError, TypeError) as error:
            raise SegueError(f"{name}, line {number}: a JSON object with a path was expected ({error})") from error
        found.append(row)
    return found


def facts(row: dict[str, Any], place: object) -> dict[str, str]:
    """What a line of the manifest `place` tells, as text; a number stands for a name.

    Raises:
        SegueError: if a fact is neither.
    """
    told = {}
    for key in FACTS:
        value = row.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise SegueError(f"{place}: {key} {value!r} of {row.get('path')}: text is wanted")
        if value is not None and value != "":
            told[key] = str(value)
    return told
