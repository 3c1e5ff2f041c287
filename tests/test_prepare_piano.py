"""`scripts/bundled/prepare_piano.py`: a piece in another key and otherwise struck stays the same piece."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest

mido = pytest.importorskip("mido")

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bundled" / "prepare_piano.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("prepare_piano", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def notes(path: Path) -> list[tuple[str, int, int, int]]:
    track = mido.MidiFile(path).tracks[0]
    return [(one.type, one.note, one.velocity, one.time) for one in track if not one.is_meta]


def played(script, tmp_path: Path, seed: int, pitches: tuple[int, ...]) -> list[tuple[list, list]]:
    song, track = mido.MidiFile(), mido.MidiTrack()
    song.tracks.append(track)
    for place, pitch in enumerate(pitches):
        track.append(mido.Message("note_on", note=pitch, velocity=40 + 20 * place, time=10 * place))
        track.append(mido.Message("note_on", note=pitch, velocity=0, time=30))  # a note's end, as many files have it
    song.save(tmp_path / "song.mid")
    script.played_otherwise(tmp_path / "song.mid", tmp_path / "varied.mid", random.Random(seed))
    return list(zip(notes(tmp_path / "song.mid"), notes(tmp_path / "varied.mid"), strict=True))


@pytest.mark.parametrize("seed", range(8))
def test_intervals_times_and_ends_stay(script, tmp_path, seed):
    pairs = played(script, tmp_path, seed, (48, 60, 64, 67))
    steps = {theirs[1] - ours[1] for ours, theirs in pairs}
    assert len(steps) == 1 and abs(steps.pop()) <= 6
    assert [(ours[0], ours[3]) for ours, _ in pairs] == [(theirs[0], theirs[3]) for _, theirs in pairs]
    assert all((ours[2] == 0) == (theirs[2] == 0) for ours, theirs in pairs)
    loud = [theirs[2] for _, theirs in pairs if theirs[2]]
    assert loud == sorted(loud) and all(1 <= one <= 127 for one in loud)


def test_seeds_differ_and_the_same_one_does_not(script, tmp_path):
    found = [tuple(theirs[1] for _, theirs in played(script, tmp_path, seed, (60,))) for seed in (1, 1, 2, 3, 4)]
    assert found[0] == found[1] and len(set(found)) > 2


@pytest.mark.parametrize("seed", range(8))
def test_nothing_leaves_the_keyboard(script, tmp_path, seed):
    assert all(21 <= theirs[1] <= 108 for _, theirs in played(script, tmp_path, seed, (21, 108)))
