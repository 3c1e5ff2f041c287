"""The ZeroSpeech 2021 sets as they are: sWUGGY (`lexical/dev`, `lexical/test`) and sBLIMP (`syntactic/dev`, ...).

A folder of sounds and a `gold.csv` beside them, a line a sound: `id`, `filename` (without .wav), `voice`, `correct`
(1 or 0), and `word`, `phones`, `length`, `frequency` (sWUGGY) or `transcription`, `type`, `subtype` (sBLIMP). A pair is
the two sounds of one id (of one type and subtype) in one voice. The challenge keeps the test parts' gold.csv to itself.

Source: Nguyen et al. 2020, The Zero Resource Speech Benchmark 2021 (arXiv 2011.11588), sections 3.2 and 3.4.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from segue.errors import SegueError
from segue.evaluate.pairs.sets import Pair, PairSet, by_kind, check_sound

GOLD = "gold.csv"
TASKS = {"lexical": "word", "syntactic": "sentence"}
_NEEDED = ("id", "filename", "voice", "correct")
_TEXT = {"word": "word", "sentence": "transcription"}
_TOLD = ("phones", "length", "frequency", "type", "subtype")


def is_zerospeech(folder: Path) -> bool:
    """Whether a folder is the challenge's, one of its tasks, or a part of one."""
    return (folder / GOLD).is_file() or bool(_parts(folder)) or any((folder / task).is_dir() for task in TASKS)


def read(folder: Path) -> list[PairSet]:
    """The pairs of the challenge's folder, of a task or of a part of one: of every part that has a gold.csv.

    Raises:
        SegueError: if none has, or one doesn't fit its sounds.
    """
    parts = [folder] if (folder / GOLD).is_file() else _parts(folder)
    if not parts:
        raise SegueError(
            f"{folder}: no {GOLD} beside the sounds, neither in dev nor in test (the challenge keeps that of the test "
            "part to itself); give the folder of a part that has one"
        )
    return [found for part in parts for found in _read_part(part)]


def _parts(folder: Path) -> list[Path]:
    places = [folder / part for part in ("dev", "test")]
    places += [folder / task / part for task in TASKS for part in ("dev", "test")]
    return [place for place in places if (place / GOLD).is_file()]


def _read_part(folder: Path) -> list[PairSet]:
    path = folder / GOLD
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), tuple(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SegueError(f"{path}: can't be read ({error})") from error
    kind = next((kind for kind, text in _TEXT.items() if text in columns), None)
    missing = [name for name in _NEEDED if name not in columns]
    if kind is None or missing:
        wanted = ", ".join([*_NEEDED, "word or transcription"])
        raise SegueError(f"{path}: columns {', '.join(columns) or 'none'}; {wanted} are needed")
    members: dict[tuple[str, ...], dict[str, list[dict[str, str]]]] = defaultdict(lambda: {"1": [], "0": []})
    for number, row in enumerate(rows, 2):
        if any(row[name] is None for name in _NEEDED) or row["correct"].strip() not in ("0", "1"):
            raise SegueError(f"{path}, line {number}: correct must be 1 or 0, got {row['correct']!r}")
        key = (row.get("type") or "", row.get("subtype") or "", row["id"], row["voice"])
        members[key][row["correct"].strip()].append(row)
    pairs = [_pair(folder, key, both["1"], both["0"], kind) for key, both in members.items()]
    name = "/".join(folder.resolve().parts[-2:])
    return by_kind(name, pairs, path)


def _pair(
    folder: Path, key: tuple[str, ...], right: list[dict[str, str]], wrong: list[dict[str, str]], kind: str
) -> Pair:
    *types, number, voice = key
    name = " ".join(filter(None, [*types, number]))
    place = f"{folder / GOLD}: id {name}, voice {voice}"
    if len(right) != 1 or len(wrong) != 1:
        raise SegueError(f"{place}: {len(right)} correct and {len(wrong)} other sounds; one of each makes a pair")
    paths = []
    for row in (right[0], wrong[0]):
        paths.append(folder / f"{row['filename'].removesuffix('.wav')}.wav")
        check_sound(paths[-1], place)
    facts = {key: right[0][key] for key in _TOLD if right[0].get(key)}
    facts |= {"right_text": right[0][_TEXT[kind]], "wrong_text": wrong[0][_TEXT[kind]]}
    return Pair(name, kind, paths[0], paths[1], voice, name, facts)
