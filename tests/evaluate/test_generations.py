"""What suites listen to: made once, kept, the same after a stop; sections go through JSON unchanged."""

from __future__ import annotations

import json
import math

import pytest
import soundfile
import tiny

from segue.errors import SegueError
from segue.evaluate import section
from segue.evaluate.cache import Cache
from segue.evaluate.generations import continuations, seed_of, usable
from segue.evaluate.measures import Figure
from segue.evaluate.recordings import choose, held_out
from segue.evaluate.section import Column, Player, Plot, Section, Table
from segue.evaluate.suite import Context


@pytest.fixture
def folder(tmp_path):
    """Two recordings of one speaker, two of nobody known, one too short and one that can't be read."""
    rows = []
    for number, seconds in enumerate((4.0, 3.0, 4.0, 3.5, 0.5)):
        soundfile.write(tmp_path / f"{number}.wav", tiny.sound(seconds, number), tiny.RATE)
        rows.append({"path": f"{number}.wav"} | ({"speaker": "a"} if number < 2 else {}))
    (tmp_path / "5.wav").write_bytes(b"RIFFnothing")
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_recordings_are_taken_in_turn_and_what_is_left_out_is_told(folder):
    found, told = held_out([folder], 10, 3.5, 0, 1.0)
    assert [one.item.id.rsplit("/", 1)[1] for one in found] == ["0.wav", "1.wav", "2.wav", "3.wav"]
    assert found[0].group == found[1].group and len({one.group for one in found}) == 3
    assert [one.speaker >= 0 for one in found] == [True, True, False, False]
    assert [one.seconds for one in found] == [3.5, 3.0, 3.5, 3.5]
    assert len(told) == 1 and "5.wav: left out" in told[0]
    few, _ = held_out([folder], 3, 3.5, 0, 1.0)
    assert {one.item.id.rsplit("/", 1)[1] for one in few} > {"0.wav", "1.wav"}, "the unknown have one turn for all"
    apart, _ = held_out([folder], 10, 3.5, 0, 1.0, by_speaker=False)
    assert len({one.group for one in apart}) == 4
    with pytest.raises(SegueError, match="none of 6 recordings is 60 s long"):
        held_out([folder], 10, 90.0, 0, 60.0)


def test_a_recording_is_known_by_what_it_holds_too(folder, tmp_path_factory):
    there = tmp_path_factory.mktemp("elsewhere") / folder.name
    there.mkdir()
    soundfile.write(there / "0.wav", tiny.sound(4.0, 77), tiny.RATE)
    here, other = (held_out([place / "0.wav"], 1, 3.5, 0, 1.0)[0][0] for place in (folder, there))
    assert here.item.id == other.item.id
    assert here.identity[1] != other.identity[1] and here.identity[1] == here.digest[:16]


def test_speakers_whose_recordings_are_all_too_short_are_refused(tmp_path):
    rows = []
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", tiny.sound(0.6, number), tiny.RATE)
        rows.append({"path": f"{number}.wav", "speaker": f"s{number % 2}"})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SegueError, match="fewer than 2 speakers; give longer ones"):
        choose([tmp_path], 4, 1.5, 0)


def test_a_continuation_is_made_once(bundle, folder, tmp_path, monkeypatch):
    found, _ = held_out([folder], 10, 3.5, 0, 3.2)
    context = Context(bundle, tuple(found), "speech", tmp_path, Cache(tmp_path / "cache"), 3, 1.0, 0.4)
    first = list(continuations(context, "full", (0, 1)))
    own = [seed_of(one, 3) for one in found]
    assert [(one.number, one.seed) for one in first] == [
        (n, own[n] + take) for n in range(len(found)) for take in (0, 1)
    ]
    assert len({*own}) == len(found) > 1 and min(abs(one - own[0]) for one in own[1:]) > 100
    assert own == [seed_of(one, 3) for one in reversed(found)][::-1], "whatever the others are"
    assert all(len(one.wave) == round(0.4 * tiny.RATE) for one in first)
    assert all(len(one.truth) == round(0.4 * tiny.RATE) and 0 <= one.repeated <= 1 for one in first)
    monkeypatch.setattr(type(bundle), "continue_audio", lambda *a, **k: pytest.fail("made again"))
    again = list(continuations(context, "full", (0, 1)))
    assert all(one.wave.equal(two.wave) and one.truth.equal(two.truth) for one, two in zip(first, again, strict=True))
    assert [one.repeated for one in first] == [two.repeated for two in again]


def test_a_silent_prompt_is_passed_over(bundle, tmp_path):
    for number in range(2):
        wave = tiny.sound(4.0, number)
        wave[: (1 - number) * tiny.RATE] = 0
        soundfile.write(tmp_path / f"{number}.wav", wave, tiny.RATE)
    found, _ = held_out([tmp_path], 10, 4.0, 0)
    context = Context(bundle, tuple(found), "speech", tmp_path, Cache(tmp_path / "cache"), 0, 1.0, 0.4)
    assert usable(context) == [1]


def test_kept_results_are_told_apart_by_their_key_alone(tmp_path):
    cache = Cache(tmp_path / "cache")
    assert cache.value({"a": 1}, lambda: [1.0, math.nan]) == [1.0, None]
    assert cache.value({"a": 1}, lambda: pytest.fail("made again")) == [1.0, None]
    assert cache.value({"a": 2}, lambda: "other") == "other"
    with pytest.raises(ZeroDivisionError):
        cache.value({"a": 3}, lambda: 1 / 0)
    assert cache.value({"a": 3}, lambda: "made now") == "made now"


def test_a_section_goes_through_json_unchanged(tmp_path):
    column = Column("wer", "WER", "lower", 3)
    table = Table("words", "Words", (column,), {"full": {"wer": Figure(0.5, 0.4, 0.6)}, "other": {"wer": None}})
    whole = Section(
        "acoustic",
        "Acoustic",
        "About.",
        (table,),
        (Player("original", "1", "sounds/1.wav"),),
        (Plot("p", "pictures/p.png"),),
        ("a note",),
        {"n": 3},
        {"jiwer": "4"},
        {"voice": "no"},
        1.5,
    )
    section.save(whole, tmp_path / "one.json")
    assert section.read(tmp_path / "one.json") == whole
    (tmp_path / "two.json").write_text('{"suite": "x"}')
    with pytest.raises(SegueError, match=r"two\.json: no section"):
        section.read(tmp_path / "two.json")


def test_what_was_not_measured_is_never_a_number():
    assert section.shown(None) == section.shown(Figure(math.nan)) == "not measured"
    assert section.shown(Figure(0.5)) == "0.50" and section.shown(Figure(0.5, 0.25, 1.0), 1) == "0.5 (0.2, 1.0)"
