"""What becomes a clip: pieces that fill a span, stretches of speech joined over pauses, and speech that is found."""

from __future__ import annotations

import itertools
import math
import sys

import numpy as np
import pytest
import soundfile
import torch
from clocks import clocks, ramp
from hypothesis import given
from hypothesis import strategies as st

from segue.audio import MINIMUM_SECONDS
from segue.data import voice
from segue.data.corpus import fill
from segue.data.engine_local import here
from segue.data.store import TokenStore
from segue.data.voice import Cutting, joined, pieces, speech_finder
from segue.data.work import item_of
from segue.errors import SegueError

LENGTH = st.floats(0.2, 500).map(lambda seconds: round(seconds, 3))
MOST = st.floats(1, 40)


@given(st.floats(0, 9).map(lambda start: round(start, 3)), LENGTH, MOST)
def test_pieces_fill_the_span_and_none_is_too_long(start, length, most):
    made = pieces((start, start + length), most)
    assert made[0][0] == start and made[-1][1] == start + length
    assert all(one[1] == other[0] for one, other in itertools.pairwise(made))
    sizes = [stop - begin for begin, stop in made]
    assert max(sizes) <= most + 0.001 and max(sizes) - min(sizes) <= 0.0021
    assert len(made) == max(1, math.ceil(length / most - 1e-9))


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.3, 9)), min_size=1, max_size=20), MOST)
def test_joined_speech_keeps_every_stretch_and_no_long_pause(steps, most):
    stretches, at = [], 0.0
    for pause, speech in steps:
        stretches.append((round(at + pause, 3), round(at + pause + speech, 3)))
        at = stretches[-1][1]
    made = joined(stretches, most)
    assert all(stop - start <= most + 0.002 for start, stop in made)
    for start, stop in stretches:
        middle = (start + stop) / 2
        assert any(a <= middle <= b for a, b in made)
    for start, stop in made:
        inside = [one for one in stretches if one[1] > start and one[0] < stop]
        gaps = [after[0] - before[1] for before, after in itertools.pairwise(inside)]
        assert max(gaps, default=0) <= voice.PAUSE_SECONDS


def test_a_short_neighbour_across_a_pause_goes_along_and_across_a_long_one_does_not():
    assert joined([(0.0, 2.0), (2.5, 3.0), (5.0, 6.0)]) == [(0.0, 3.0), (5.0, 6.0)]
    assert joined([(0.0, 2.0), (2.5, 3.0)], 2.5) == [(0.0, 2.0), (2.5, 3.0)]


@pytest.mark.parametrize("seconds", [0, -1, 0.5, float("nan")])
def test_clips_must_have_a_length(seconds):
    with pytest.raises(SegueError, match="max_seconds"):
        Cutting(max_seconds=seconds)


def test_a_long_recording_becomes_clips_that_tell_where_they_were(tmp_path):
    ramp(tmp_path / "sounds" / "x.wav", 2.0)
    ramp(tmp_path / "sounds" / "short.wav", 1.0)
    done = fill([tmp_path / "sounds"], tmp_path / "store", clocks(), here(clocks()), cutting=Cutting(max_seconds=1.0))
    store = TokenStore.open(tmp_path / "store")
    assert [row["id"] for row in store.facts] == [
        "sounds/short.wav",
        "sounds/x.wav#0.000-1.000",
        "sounds/x.wav#1.000-2.000",
    ]
    assert store.codes(2)[:, 0].tolist() == list(range(50, 100)) and store.facts[2]["seconds"] == 1.0
    assert done.written == 3 and done.seconds == 3.0
    again = fill([tmp_path / "sounds"], tmp_path / "store", clocks(), here(clocks()))
    assert (again.written, again.kept) == (0, 2)
    assert item_of("a#b.wav") == "a#b.wav" and item_of("a.wav#0.000-1.000") == "a.wav"


def test_a_silent_piece_is_left_out_and_listed(tmp_path):
    wave = np.concatenate([np.full(16_000, 640), np.zeros(16_000), np.full(16_000, 640)]).astype(np.int16)
    soundfile.write(tmp_path / "x.wav", wave, 16_000)
    done = fill([tmp_path], tmp_path / "store", clocks(), here(clocks()), cutting=Cutting(max_seconds=1.0))
    assert (done.written, done.skipped) == (2, 1)
    for _ in range(2):
        listed = (tmp_path / "store" / "skipped.jsonl").read_text()
        assert listed.count("\n") == 1 and "x.wav#1.000-2.000" in listed and "silence" in listed
        fill([tmp_path], tmp_path / "store", clocks(), here(clocks()), cutting=Cutting(max_seconds=1.0))


def test_what_is_trimmed_is_what_the_finder_finds(tmp_path, monkeypatch):
    heard = []

    def finder(max_seconds):
        return lambda wave: heard.append((max_seconds, wave.shape)) or [(0.2, 0.4), (0.5, 0.8), (2.0, 2.5)]

    monkeypatch.setattr("segue.data.work.speech_finder", finder)
    soundfile.write(tmp_path / "x.wav", np.repeat(np.arange(1, 3001, dtype=np.int16), 44)[:131_000], 44_000)
    fill([tmp_path], tmp_path / "store", clocks(), here(clocks()), cutting=Cutting(True, 9.0))
    assert heard[0][0] == 9.0 and abs(heard[0][1][0] - 131_000 * 16 / 44) < 2
    ids = [row["id"].split("#")[1] for row in TokenStore.open(tmp_path / "store").facts]
    assert ids == ["0.200-0.800", "2.000-2.500"]


def test_sound_without_speech_is_skipped_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("segue.data.work.speech_finder", lambda max_seconds: lambda wave: [])
    ramp(tmp_path / "x.wav", 1.0)
    with pytest.raises(SegueError, match=r"no sound file could be used \(1 skipped\)"):
        fill([tmp_path], tmp_path / "store", clocks(), here(clocks()), cutting=Cutting(True))
    assert "no speech found" in (tmp_path / "store" / "skipped.jsonl").read_text()


def test_without_the_package_trimming_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(SegueError, match=r"segue\[vad\]"):
        speech_finder()


def test_speech_is_found_between_silences():
    pytest.importorskip("silero_vad")
    from pathlib import Path

    from segue import audio

    speech = audio.read(Path(__file__).parents[2] / "examples" / "speech.wav", voice.SAMPLE_RATE).wave[:48_000]
    silence = torch.zeros(64_000)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    find = speech_finder()
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    found = joined(find(torch.cat([silence, speech, silence, speech])))
    assert len(found) == 2
    for (start, stop), begin in zip(found, (4.0, 11.0), strict=True):
        assert begin - 0.2 <= start <= begin + 1.0 and begin + 2.0 <= stop <= begin + 3.2
        assert stop - start > MINIMUM_SECONDS
    assert find(silence) == []
