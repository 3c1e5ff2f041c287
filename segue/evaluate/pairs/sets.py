"""A set of pairs on disk: a folder with `pairs.jsonl`, a line a pair and voice, and the sounds that it names.

    {"id": "7", "kind": "word", "right": "7-right.wav", "wrong": "7-wrong.wav", "voice": "heart",
     "group": "7", "licence": "...", "source": "...", and whatever else is worth telling}

`right` is the member that should be likelier. `kind` says what sets the two apart: a word and a pseudo-word (`word`), a
sentence and an ungrammatical one (`sentence`), a continuation and another recording's (`continuation`), the same one
with its segments in reversed order (`order`) or played backwards (`reversed`). Pairs of one id in several voices count
as one, and pairs of one `group` (the id, if it isn't told) go together when intervals are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segue import audio
from segue.errors import SegueError
from segue.evaluate.section import plain

FILE = "pairs.jsonl"
_TEXTS = ("id", "kind", "right", "wrong")
_OPTIONAL = ("voice", "group")


@dataclass(frozen=True)
class Pair:
    """Two sounds.

    Attributes:
        id: of the pair, whatever the voice.
        kind: what sets the two apart.
        right: file of the member that should be likelier.
        wrong: file of the other.
        voice: who speaks both; empty where nobody told.
        group: pairs that intervals are drawn together with.
        facts: whatever else is told: text, licence, source, type.
    """

    id: str
    kind: str
    right: Path
    wrong: Path
    voice: str = ""
    group: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PairSet:
    """Pairs of one kind from one place.

    Attributes:
        name: of the place and the kind.
        kind: of all of them.
        pairs: in the order of the file.
    """

    name: str
    kind: str
    pairs: tuple[Pair, ...]


def read(folder: Path) -> list[PairSet]:
    """The pairs of a folder with a `pairs.jsonl`, a set a kind.

    Raises:
        SegueError: if there is none, a line is none, a sound is missing or no sound, or a pair is there twice.
    """
    path = folder / FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SegueError(f"{path}: can't be read ({reason}); a folder of pairs has a {FILE}") from error
    pairs = [_pair(folder, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    return by_kind(folder.resolve().name, pairs, path)


def by_kind(name: str, pairs: Sequence[Pair], path: Path) -> list[PairSet]:
    """Pairs as sets of one kind each.

    Raises:
        SegueError: if there are none, or a pair is there twice in one voice.
    """
    if not pairs:
        raise SegueError(f"{path}: no pairs in it; make some with `segue evaluate pairs make`")
    seen: set[tuple[str, str, str]] = set()
    for pair in pairs:
        key = (pair.kind, pair.id, pair.voice)
        if key in seen:
            raise SegueError(f"{path}: the {pair.kind} pair {pair.id} in voice {pair.voice!r} is there twice; drop one")
        seen.add(key)
    kinds = sorted({pair.kind for pair in pairs})
    return [PairSet(f"{name}: {kind}", kind, tuple(pair for pair in pairs if pair.kind == kind)) for kind in kinds]


def check_sound(path: Path, place: str) -> None:
    """Refuse a member that isn't there or is no sound.

    Raises:
        SegueError: naming it and the line that does.
    """
    if not path.is_file():
        raise SegueError(f"{place}: {path} is not there; copy or make the pairs again")
    if audio.header(path).samples == 0:
        raise SegueError(f"{place}: {path} has no samples; copy or make the pairs again")


def line_of(pair: Pair, folder: Path) -> str:
    """A pair as its line of `pairs.jsonl`."""
    told = {key: getattr(pair, key) for key in ("id", "kind", "voice", "group") if getattr(pair, key)}
    paths = {key: getattr(pair, key).relative_to(folder).as_posix() for key in ("right", "wrong")}
    return json.dumps(plain(told | paths | pair.facts), ensure_ascii=False, allow_nan=False)


def _pair(folder: Path, number: int, line: str) -> Pair:
    place = f"{folder / FILE}, line {number}"
    try:
        row = json.loads(line)
    except ValueError as error:
        raise SegueError(f"{place}: no JSON ({error}); a line is a JSON object with {', '.join(_TEXTS)}") from error
    if not isinstance(row, dict):
        raise SegueError(f"{place}: a JSON object with {', '.join(_TEXTS)} was expected")
    for key in (*_TEXTS, *_OPTIONAL):
        value = row.get(key, "" if key in _OPTIONAL else None)
        if not isinstance(value, str) or (key in _TEXTS and not value):
            raise SegueError(f"{place}: {key} {value!r}: text was expected")
    for key in ("right", "wrong"):
        if Path(row[key]).is_absolute() or ".." in Path(row[key]).parts:
            raise SegueError(f"{place}: {key} {row[key]}: give a path inside the folder")
        check_sound(folder / row[key], place)
    facts = {key: value for key, value in row.items() if key not in (*_TEXTS, *_OPTIONAL)}
    right, wrong = folder / row["right"], folder / row["wrong"]
    group = row.get("group") or row["id"]
    return Pair(row["id"], row["kind"], right, wrong, row.get("voice", ""), group, facts)
