"""The suites over a tiny bundle with stub scorers: all tables are there, nothing is made twice, gaps are told."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import scorer_stubs as stubs
import soundfile
import tiny
import torch

from segue.errors import SegueError
from segue.evaluate import generations, section, suites
from segue.evaluate.cache import Cache
from segue.evaluate.cases import ANCHOR
from segue.evaluate.recordings import held_out
from segue.evaluate.suite import Context
from segue.evaluate.suites import acoustic

SECONDS = 2.2


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Six recordings of three speakers, each with a tone, one with a transcript; a short one of nobody known."""
    folder = tmp_path_factory.mktemp("sounds")
    rows = []
    for number in range(7):
        seconds = 3.4 if number < 6 else 1.5
        wave = tiny.sound(seconds, number)
        tone = np.sin(2 * np.pi * 600 * (1 + number % 3) * np.arange(len(wave)) / tiny.RATE)
        soundfile.write(folder / f"{number}.wav", wave / 2 + 0.2 * tone, tiny.RATE)
        row = {"path": f"{number}.wav"} | ({"speaker": f"s{number % 3}"} if number < 6 else {})
        rows.append(row | ({"text": "w1 w2 w3"} if number == 0 else {}))
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(autouse=True)
def faithful(bundle, monkeypatch):
    """A codec that gives back what it is given, so that the anchor is as good as can be."""
    monkeypatch.setattr(type(bundle), "reconstruct", lambda self, wave, num_codebooks=None: wave)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A cache that the tests of this file share, so that a continuation is made once."""
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def context(bundle, sounds, kept, tmp_path):
    def make(kind="speech", **changes):
        found, _ = held_out([sounds], 20, 4.0, 0, 1.0, by_speaker=kind == "speech")
        settings = {"seed": 1, "prompt_seconds": 1.0, "seconds": SECONDS} | changes
        return Context(bundle, tuple(settings.pop("recordings", found)), kind, tmp_path / "out", kept, **settings)

    return make


def rows(found: section.Section, key: str) -> dict:
    return next(table for table in found.tables if table.key == key).rows


def test_a_continuation_is_measured_beside_the_recording_itself(context, monkeypatch, tmp_path):
    stubs.use(monkeypatch)
    told = []
    here = context(tell=lambda what, done, total: told.append((what, done, total)))
    found = suites.suite("continuation")(here)
    section.save(found, tmp_path / "found.json")
    assert section.read(tmp_path / "found.json").tables[0].key == "identity"
    identity, quality = rows(found, "identity"), rows(found, "quality")
    assert list(identity) == ["continuation", ANCHOR, "another recording's, through the codec"]
    other = identity["another recording's, through the codec"]
    assert identity[ANCHOR]["similarity"].value > 0.9 > other["similarity"].value
    assert identity[ANCHOR]["nearer_all"].value == identity[ANCHOR]["speaker_accuracy"].value == 1
    assert other["nearer_all"].value == other["speaker_accuracy"].value == 0
    assert math.isfinite(identity["continuation"]["nearer_random"].low)
    assert quality[ANCHOR].get("frechet") is None and quality["continuation"]["frechet"].value > 0
    less = quality["continuation"]["distillmos"].value - quality[ANCHOR]["distillmos"].value
    assert quality["continuation"]["distillmos_less"].value == pytest.approx(less)
    assert rows(found, "over_time")["0 to 2 s"]["cases"].value == 6
    assert 0 < rows(found, "diversity")["takes of one prompt"]["tokens"].value <= 1
    assert len(found.details["continuation"]) == 6 and found.not_measured == {}
    assert any("1 of 7 recordings are too short" in note for note in found.notes)
    if importlib.util.find_spec("matplotlib"):
        assert (here.out / found.plots[0].picture).read_bytes()[:4] == b"\x89PNG"
    else:
        assert any("is not drawn" in note and "matplotlib" in note for note in found.notes)
    for player in found.players:
        assert (here.out / player.sound).is_file() and (here.out / player.picture).read_bytes()[:4] == b"\x89PNG"
    assert all(done <= total for _, done, total in told) and len({what for what, _, _ in told}) > 5


def test_nothing_is_made_or_scored_twice(context, monkeypatch):
    stubs.use(monkeypatch)
    first = suites.suite("continuation")(context())
    refused = {name: lambda *waves, name=name, **settings: pytest.fail(f"{name} again") for name in stubs.TOOLS}
    stubs.use(monkeypatch, **refused)
    monkeypatch.setattr(type(context().bundle), "continue_audio", lambda *a, **k: pytest.fail("made again"))
    again = suites.suite("continuation")(context())
    assert again.tables == first.tables


def test_missing_scorers_leave_their_columns_and_nothing_else(context, monkeypatch):
    gone = {name: ImportError(f"no {name}") for name in ("voice", "dnsmos", "distillmos")}
    stubs.use(monkeypatch, **gone)
    monkeypatch.setattr(
        Cache, "value", lambda self, key, make: json.loads(json.dumps(section.plain({"v": make()})))["v"]
    )
    found = suites.suite("continuation")(context())
    assert "pip install voice" in found.not_measured["similarity"] and "dnsmos_speech" in found.not_measured
    assert rows(found, "identity")["continuation"]["similarity"] is None
    assert section.shown(rows(found, "quality")["continuation"]["distillmos"]) == "not measured"
    assert rows(found, "collapse")["continuation"]["silence"] is not None


def test_piano_is_measured_by_notes_and_speech_measures_are_left_out(context, monkeypatch):
    stubs.use(monkeypatch)
    found = suites.suite("continuation")(context("piano"))
    nearer, piano = rows(found, "nearer"), rows(found, "piano")
    assert ANCHOR not in nearer and 0 <= nearer["continuation"]["nearer"].value <= 1
    assert piano[ANCHOR]["onsets"].value > 0 and piano[ANCHOR]["tempo_kept"].value == 1
    assert 0 <= rows(found, "timbre")[ANCHOR]["timbre_named"].value <= 1
    assert "only for speech" in found.about and found.not_measured == {}
    assert not any(table.key == "identity" for table in found.tables)


def test_a_system_that_a_bundle_can_not_be_is_told(context, monkeypatch):
    stubs.use(monkeypatch)
    found = suites.suite("baselines")(context())
    assert rows(found, "baselines")["acoustic-only"] == {}
    assert "never trained without semantic tokens" in found.not_measured["acoustic-only"]
    assert rows(found, "baselines")["semantic-only"]["wer_heard"] is not None


def test_three_systems_and_the_codec_stand_in_one_table(bundle, context, monkeypatch):
    stubs.use(monkeypatch)
    for model in (bundle.stages.coarse, bundle.stages.fine):
        monkeypatch.setattr(model, "stage", replace(model.stage, semantic_optional=True))
    found = suites.suite("baselines")(context())
    table = rows(found, "baselines")
    assert list(table) == ["full", "acoustic-only", "semantic-only", ANCHOR]
    assert all(row["similarity"] is not None and row["collapsed"] is not None for row in table.values())
    assert table[ANCHOR]["wer_heard"].value == 0 < table["acoustic-only"]["wer_heard"].value
    assert table[ANCHOR].get("frechet") is None and table["semantic-only"]["frechet"].value > 0
    assert found.details["full"][0]["heard"]
    piano = suites.suite("baselines")(context("piano"))
    assert rows(piano, "baselines")[ANCHOR].get("nearer") is None
    assert rows(piano, "baselines")["full"]["nearer"] is not None and "words" not in str(piano.not_measured)


def test_silent_continuations_break_nothing(context, monkeypatch):
    def silent(context, number, system, seed):
        recording = context.recordings[number]
        wave = torch.zeros(2 if number % 2 else 32_000)
        return generations.Made(
            number, recording, system, seed, recording.wave(tiny.RATE)[:16_000], wave, torch.zeros(32_000), 0.0
        )

    stubs.use(monkeypatch)
    monkeypatch.setattr(generations, "_made", silent)
    for kind in ("speech", "piano"):
        found = suites.suite("continuation")(context(kind))
        assert rows(found, "collapse")["continuation"]["silence"].value == 1


def test_nobody_told_who_speaks(context, monkeypatch):
    stubs.use(monkeypatch)
    here = context()
    lonely = [one for one in here.recordings if one.seconds > 3][:1]
    found = suites.suite("continuation")(context(recordings=lonely))
    assert rows(found, "identity")["continuation"]["nearer_random"] is None
    assert rows(found, "identity")["continuation"]["similarity"] is not None
    assert (
        "one speaker alone" in found.not_measured["nearer_all"] and "manifest" in found.not_measured["speaker_accuracy"]
    )


def test_words_are_counted_against_the_transcript_and_against_the_original(context, monkeypatch):
    stubs.use(monkeypatch)
    found = suites.suite("acoustic")(context())
    table = rows(found, "acoustic")
    assert list(table) == ["original", "through the codec", "from its semantic tokens"]
    assert table["original"]["wer"] is not None and table["original"]["wer_heard"] is None
    assert table["through the codec"]["wer_heard"].value == 0 == table["through the codec"]["cer_heard"].value
    assert table["from its semantic tokens"]["wer_heard"].value > 0
    assert table["through the codec"]["speaker_similarity"].value == pytest.approx(1, abs=1e-4)
    assert table["original"]["speaker_similarity"] is None and table["original"]["distillmos"].value > 0
    assert any("1 of 7 recordings have a transcript" in note for note in found.notes)
    told = {row["recording"]: row["by_transcript"] for row in found.details["original"]}
    assert sum(one is not None for one in told.values()) == 1 and found.not_measured == {}


def test_without_a_transcript_words_are_counted_against_the_original_alone(context, monkeypatch):
    stubs.use(monkeypatch)
    monkeypatch.setattr(acoustic, "LONGEST_SECONDS", 2.0)  # of the one with a transcript, so that it doesn't fit
    here = context()
    found = suites.suite("acoustic")(here)
    assert "no transcript" in found.not_measured["wer"] and rows(found, "acoustic")["original"]["wer"] is None
    stubs.use(monkeypatch, words=ImportError("no whisper"))
    gone = suites.suite("acoustic")(context(recordings=here.recordings[:1], seed=5))
    assert "pip install words" in gone.not_measured["wer_heard"] or "no whisper" in gone.not_measured["wer_heard"]


def test_piano_is_made_again_and_heard_by_its_notes(context, monkeypatch):
    stubs.use(monkeypatch)
    table = rows(suites.suite("acoustic")(context("piano")), "acoustic")
    assert table["through the codec"]["pitches"].value == pytest.approx(1)
    assert table["from its semantic tokens"]["timbre"].value > table["through the codec"]["timbre"].value == 0
    assert set(table["original"]) == {"onsets"}


def test_the_codec_is_measured_at_each_bitrate(context, bundle, monkeypatch):
    asked = []
    monkeypatch.setattr(
        type(bundle), "reconstruct", lambda self, wave, num_codebooks=None: asked.append(num_codebooks) or wave / 2
    )
    stubs.use(monkeypatch)
    found = suites.suite("codec")(context())
    table = rows(found, "codec")
    refined = ["3 codebooks, refined", "12 codebooks, refined"]
    assert list(table) == [
        "1 codebook",
        "3 codebooks",
        refined[0],
        "6 codebooks",
        "12 codebooks",
        refined[1],
        "original",
    ]
    assert table["12 codebooks"]["kbit_s"].value == pytest.approx(12 * 50 * 4 / 1000)
    assert table["original"]["distillmos"].value == pytest.approx(
        2 * table["3 codebooks"]["distillmos"].value, rel=0.01
    )
    assert table["original"]["kbit_s"].value == 256
    assert "pesq" not in table["original"] and set(asked) == {1, 3, 6, 12}
    assert table[refined[0]]["kbit_s"].value == table["3 codebooks"]["kbit_s"].value
    assert table[refined[0]]["distillmos"].value != pytest.approx(table["3 codebooks"]["distillmos"].value)
    played = ["original", "3 codebooks", refined[0], "12 codebooks", refined[1]]
    assert [player.title for player in found.players] == 4 * played and found.not_measured == {}
    assert table["12 codebooks"]["wer_heard"].value == 0 and table["original"]["wer_heard"] is None
    assert found.details["3 codebooks"][0]["heard"] == found.details["original"][0]["heard"]
    piano = suites.suite("codec")(context("piano", options={"codebooks": [2]}))
    assert [column.key for column in piano.tables[0].columns] == ["kbit_s", "visqol", "si_sdr"]
    assert list(rows(piano, "codec")) == ["2 codebooks", "2 codebooks, refined", "original"]
    for wrong in ([13], [], ["1"]):
        with pytest.raises(SegueError, match="this codec has 12"):
            suites.suite("codec")(context(options={"codebooks": wrong}))


def test_the_verb_takes_counts_of_codebooks(cli, bundle_folder, sounds, tmp_path, monkeypatch):
    stubs.use(monkeypatch)
    options = ("--data", sounds, "--out", tmp_path / "report", "--bundle", bundle_folder, "--prompt-seconds", 1)
    shown = cli("evaluate", "codec", *options, "--seconds", 2, "--codebooks", 2, "--codebooks", 5)
    assert shown.code == 0, shown.err
    kept = section.read(tmp_path / "report" / "codec.json")
    assert list(rows(kept, "codec")) == ["2 codebooks", "5 codebooks", "5 codebooks, refined", "original"]


@pytest.mark.parametrize("name", ["continuation", "baselines"])
def test_recordings_that_are_too_short_are_told(name, context, monkeypatch):
    stubs.use(monkeypatch)
    with pytest.raises(SegueError, match="no recording has 9 s of prompt"):
        suites.suite(name)(context(prompt_seconds=9.0))
