"""Pitches and chords of rendered piano with their times, as labels for measuring: never for training.

A MIDI file -> spans in seconds from one onset to the next. `pitch`: the highest note struck there; `chord`: the set of
pitch classes that sound there, of three or more. Needs mido (extra "eval").
"""

from __future__ import annotations

import importlib.metadata
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from segue.errors import SegueError
from segue.evaluate.phones import Span

Kind = Literal["pitch", "chord"]
PACKAGES = ("mido",)
_TOGETHER_SECONDS = 0.03
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def versions() -> dict[str, str]:
    """Of the packages behind it."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def spans(path: Path, kind: Kind) -> list[Span]:
    """The pitches or chords of a MIDI file.

    Raises:
        SegueError: if mido is not installed or the file is no MIDI file.
    """
    found = []
    events = _changes(path)
    for (start, struck, sounding), (end, _, _) in pairwise(events):
        if kind == "pitch":
            found.append(Span(str(max(struck)), start, end))
        elif len(classes := {note % 12 for note in sounding}) >= 3:
            found.append(Span(" ".join(_NAMES[note] for note in sorted(classes)), start, end))
    return found


def _changes(path: Path) -> list[tuple[float, set[int], set[int]]]:
    """Each onset: when, the notes struck, and all that sound after it. Notes struck within 30 ms are one onset."""
    now, sounding = 0.0, dict[int, int]()
    events: list[tuple[float, set[int], set[int]]] = []
    for message in _messages(path):
        now += message.time
        if message.type == "note_on" and message.velocity > 0:
            sounding[message.note] = sounding.get(message.note, 0) + 1
            if events and now - events[-1][0] < _TOGETHER_SECONDS:
                events[-1][1].add(message.note)
                events[-1][2].update(sounding)
            else:
                events.append((now, {message.note}, set(sounding)))
        elif message.type in ("note_on", "note_off"):
            left = sounding.pop(message.note, 1) - 1
            if left > 0:
                sounding[message.note] = left
    return [*events, (now, set(), set())]


def _messages(path: Path) -> list[Any]:
    try:
        import mido
    except ImportError as error:
        raise SegueError('notes of MIDI files need mido; pip install "segue[eval]"') from error
    try:
        return list(mido.MidiFile(path))
    except (OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise SegueError(f"{path}: not a MIDI file that can be read ({error})") from error
