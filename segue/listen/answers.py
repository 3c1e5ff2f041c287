"""Answers as they come: from the page, from files that raters downloaded, and from the store of `segue listen serve`.

All that is kept of a rater is a random session id, the day, what was heard in the sound check, and the answers.
A file is one session: {"format", "version", "test", "session", "ears", "day", "answers"}, its answers a list of
{"trial", "answer", "plays"}.
The store is JSON lines, an answer each: {"test", "session", "ears", "day", "trial", "answer", "plays"}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from segue.errors import SegueError
from segue.listen.key import ANSWERS, Key
from segue.listen.plan import form_of

FORMAT, VERSION = "segue listen answers", 1
EARS = ("left-right", "right-left", "neither")
MOST_BYTES = 1 << 20
_MOST_PLAYS = 10_000
_SESSION = re.compile(r"[0-9a-f]{32}")
_ABOUT = {"test": str, "session": str, "ears": str, "day": str}
_ANSWER = {"trial": str, "answer": int, "plays": int}


@dataclass(frozen=True)
class Answer:
    """What a rater said.

    Attributes:
        session: random id of the rater's visit.
        ears: which order was heard in the sound check; one of EARS.
        day: YYYY-MM-DD.
        trial: that was answered.
        answer: 1 or 2.
        plays: how often its sounds were played.
    """

    session: str
    ears: str
    day: str
    trial: str
    answer: int
    plays: int


@dataclass(frozen=True)
class Session:
    """A rater's answers, in the order of the trials as given.

    Attributes:
        id: of the session.
        ears: see Answer.
        answers: trial -> 1 or 2.
    """

    id: str
    ears: str
    answers: dict[str, int]


def checked(values: Any, key: Key) -> Answer:
    """An answer to this test, from JSON.

    Raises:
        SegueError: if it is none.
    """
    _fields(values, {**_ABOUT, **_ANSWER})
    if values["test"] != key.test:
        raise SegueError("an answer to another test")
    session, trial = values["session"], key.by_id.get(values["trial"])
    if not _SESSION.fullmatch(session):
        raise SegueError(f"session {session[:40]!r}: 32 hexadecimal digits are expected")
    if trial is None or trial.form != form_of(session):
        raise SegueError(f"trial {values['trial'][:40]!r}: none of this session's")
    if values["ears"] not in EARS:
        raise SegueError(f"ears {values['ears'][:40]!r}: one of {', '.join(EARS)}")
    try:
        day = date.fromisoformat(values["day"]).isoformat()
    except ValueError as error:
        raise SegueError(f"day {values['day'][:40]!r}: YYYY-MM-DD is expected") from error
    if values["answer"] not in (1, 2) or not 1 <= values["plays"] <= _MOST_PLAYS:
        raise SegueError(f"answer {values['answer']}, plays {values['plays']}: 1 or 2, and at least one play")
    return Answer(session, values["ears"], day, trial.id, values["answer"], values["plays"])


def collect(folder: Path, key: Key, files: Sequence[Path]) -> tuple[list[Session], list[str]]:
    """Every session that was sent or downloaded, once.

    Args:
        folder: of the test.
        key: its key.
        files: downloaded answers.

    Returns:
        the sessions by id, and a line on each that came more than once or was cut off.

    Raises:
        SegueError: if a file is no whole set of answers to this test, or answers a trial twice.
    """
    sources, notes = [], []
    stored, torn = read_store(folder / ANSWERS, key)
    if torn:
        notes.append(f"{folder / ANSWERS}: the last line is cut off and was left out")
    sources.append(stored)
    sources += [read_file(path, key) for path in files]
    merged: dict[str, Session] = {}
    told: set[str] = set()
    for source in sources:
        for session in _sessions(source):
            known = merged.get(session.id)
            if known is None:
                merged[session.id] = session
                continue
            differ = sum(known.answers.get(trial, answer) != answer for trial, answer in session.answers.items())
            merged[session.id] = Session(known.id, known.ears, session.answers | known.answers)
            if session.id not in told or differ:
                more = f"; {differ} answers differ, the first ones count" if differ else ""
                notes.append(f"session {session.id[:8]}: came more than once, counted once{more}")
            told.add(session.id)
    return sorted(merged.values(), key=lambda session: session.id), notes


def read_file(path: Path, key: Key) -> list[Answer]:
    """Answers as the page hands them to a rater.

    Raises:
        SegueError: see `collect`.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SegueError(f"{path}: can't be read ({error.strerror})") from error
    if len(content) > MOST_BYTES:
        raise SegueError(f"{path}: beyond {MOST_BYTES} bytes; answers to a listening test are far shorter")
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SegueError(f"{path}: no JSON, or cut off; ask the rater for the file once more") from error
    try:
        _fields(whole, {"format": str, "version": int, **_ABOUT, "answers": list})
        if (whole["format"], whole["version"]) != (FORMAT, VERSION):
            raise SegueError("no answers that this version of Segue knows")
        about = {name: whole[name] for name in _ABOUT}
        found = []
        for one in whole["answers"]:
            _fields(one, _ANSWER)
            found.append(checked({**about, **one}, key))
        _once(found)
    except SegueError as error:
        raise SegueError(f"{path}: {error}") from error
    return found


def read_store(path: Path, key: Key) -> tuple[list[Answer], bool]:
    """Answers that were sent; none where nothing was.

    Returns:
        the answers, and whether the last line is cut off. What is cut off was never confirmed to the page.

    Raises:
        SegueError: if a line is no answer to this test, or a trial is answered twice.
    """
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    except OSError as error:
        raise SegueError(f"{path}: can't be read ({error.strerror})") from error
    found = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            found.append(checked(json.loads(line), key))
        except (ValueError, RecursionError) as error:
            reason = error if isinstance(error, SegueError) else "no JSON"
            raise SegueError(f"{path}, line {number}: {reason}; take the line out") from error
    try:
        _once(found)
    except SegueError as error:
        raise SegueError(f"{path}: {error}; take one of the lines out") from error
    return found, lines[-1] != b""


def _sessions(answers: list[Answer]) -> list[Session]:
    found: dict[str, Session] = {}
    for one in answers:
        found.setdefault(one.session, Session(one.session, one.ears, {})).answers[one.trial] = one.answer
    return list(found.values())


def _once(answers: list[Answer]) -> None:
    seen = set()
    for one in answers:
        if (one.session, one.trial) in seen:
            raise SegueError(f"session {one.session[:8]} answers trial {one.trial} twice")
        seen.add((one.session, one.trial))


def _fields(values: Any, kinds: dict[str, type]) -> None:
    """Refuse what hasn't exactly these fields of these types."""
    if not isinstance(values, dict) or values.keys() != kinds.keys():
        raise SegueError(f"fields {', '.join(kinds)} are expected, and no others")
    for name, kind in kinds.items():
        if type(values[name]) is not kind:
            raise SegueError(f"{name}: of another type than is expected")
