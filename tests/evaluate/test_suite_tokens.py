"""The suite `tokens` and its verbs: figures of every row, what is missing told and never made up, pictures."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import scorer_stubs
import soundfile
import tiny
import torch

from segue import audio
from segue.errors import SegueError
from segue.evaluate import recordings, representations, section, tokens
from segue.evaluate.cache import Cache
from segue.evaluate.phones import Span
from segue.evaluate.suites import tokens as suite
from segue.semantic.repeats import restore

KINDS = ("AA", "IY", "S")


class Aligner:
    """Stands for the real one: a span each 0.2 s, as long as tiny.sound's syllables, named by its loudest frequency."""

    versions = {"pocketsphinx": "0"}  # noqa: RUF012

    def __call__(self, wave, transcript=None):
        spans = []
        for index, piece in enumerate(wave.split(3200)):
            peak = int(torch.fft.rfft(piece).abs().argmax()) * 16_000 // len(piece)
            name = KINDS[0] if peak < 250 else KINDS[1] if peak < 600 else KINDS[2]
            spans.append(Span(name, 0.2 * index, min(0.2 * index + 0.2, len(wave) / 16_000)))
        return spans


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> Path:
    """Three speakers of three recordings each, and one recording of nobody known."""
    folder = tmp_path_factory.mktemp("spoken") / "valid"
    folder.mkdir()
    rows = []
    for number in range(10):
        soundfile.write(folder / f"{number}.wav", tiny.sound(2.0, number), tiny.RATE)
        who = {"speaker": f"speaker {number % 3}"} if number < 9 else {}
        rows.append({"path": f"{number}.wav", "source": "tiny", **who})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


OPTIONS = tokens.Options(limit=20, seconds=2.0, resynthesised=0)


@pytest.fixture(scope="module")
def result(bundle, spoken):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "PhoneAligner", Aligner)
        patch.setattr(tokens, "PIECE_SECONDS", 0.8)
        patch.setattr(tokens, "UNITS", 8)
        patch.setattr(tokens, "CUT_SECONDS", 1.0)
        told: list[tuple[int, int]] = []
        found = tokens.run(bundle, bundle.semantic, [spoken], OPTIONS, lambda done, total: told.append((done, total)))
        assert told[-1][0] == told[-1][1] == len(told)
        assert tokens.run(bundle, bundle.semantic, [spoken], OPTIONS)["roles"] == found["roles"]
    return found


def test_every_row_is_measured(result):
    names = [row["name"] for row in result["roles"]]
    assert names == ["MFCC", "semantic tokens", "codes, 1 codebook", "codes, 4 codebooks", "codes, 12 codebooks"]
    for row in result["roles"]:
        for key in ("abx_within", "abx_across", "abx_spans_within", "abx_spans_across"):
            score = row[key]
            assert 0 <= score["low"] <= score["error"] + 1e-4 and score["error"] <= score["high"] + 1e-4
            assert score["speakers"] == 3
        assert 0 < row["pnmi_100_units"] <= 1
    for row in result["roles"][1:]:
        assert row["speaker_accuracy"]["speakers"] == 3 and 0 <= row["speaker_accuracy"]["value"] <= 1
    one = result["roles"][1]
    assert 0 < one["purity"] <= 1 and 0 < one["pnmi"] <= 1 and one["perplexity"] <= tiny.VOCAB
    assert [row["name"] for row in result["layers"]] == ["layer 1", "layer 2"]


def test_facts_of_the_run_are_kept(result, bundle):
    assert result["data"]["recordings"] == 9 and result["data"]["speakers"] == 3 and result["data"]["kinds"] <= 3
    assert result["semantic"] == {"fingerprint": bundle.semantic.fingerprint, "vocab_size": tiny.VOCAB}
    assert result["drift"]["recordings"] == 9 and 0 <= result["drift"]["equal_near"] <= 1
    assert result["speed"]["semantic_times_real_time"] > 0
    assert result["versions"]["pocketsphinx"] == "0" and "torch" in result["versions"]
    json.dumps(result, allow_nan=False)


def test_a_section_is_made_of_it(result, tmp_path):
    found = suite.section(result, tmp_path)
    roles, units, layers, drift, speed = found.tables
    assert list(roles.rows) == [row["name"] for row in result["roles"]] and list(layers.rows) == ["layer 1", "layer 2"]
    one = roles.rows["semantic tokens"]
    assert one["abx_across"].value == result["roles"][1]["abx_across"]["error"]
    assert one["abx_across"].low <= one["abx_across"].value + 1e-4
    assert one["pesq"] is None and section.shown(one["pesq"]) == "not measured"
    assert list(units.rows) == ["semantic tokens", "codes, 1 codebook"]
    assert drift.rows["the first 1 s"]["equal_away"].value == result["drift"]["equal_away"]
    assert speed.rows["1 thread"]["codec_times_real_time"].value > 0
    section.save(found, tmp_path / "tokens.json")
    assert section.read(tmp_path / "tokens.json").tables == found.tables
    assert section.read(tmp_path / "tokens.json").details["roles"] == result["roles"]


def test_phones_that_can_not_be_had_are_not_measured(bundle, spoken, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    found = tokens.run(bundle, bundle.semantic, [spoken], OPTIONS)
    assert 'pip install "segue[eval]"' in found["not_measured"]["phones"]
    assert "abx_across" not in found["roles"][1] and "speaker_information_nats" in found["roles"][1]
    shown = suite.section(found, tmp_path)
    assert shown.tables[0].rows["semantic tokens"]["abx_across"] is None and "phones" in shown.not_measured
    assert shown.plots == () and "nothing to draw" in shown.not_measured["plots of tokens"]


def test_scorers_that_are_missing_leave_their_columns_empty(bundle, spoken, monkeypatch):
    monkeypatch.setattr(tokens, "PhoneAligner", Aligner)
    for package in ("pesq", "visqol", "resemblyzer"):
        monkeypatch.setitem(sys.modules, package, None)
    options = tokens.Options(limit=4, seconds=1.0, resynthesised=1, resynthesis_seconds=0.4)
    found = tokens.run(bundle, bundle.semantic, [spoken], options)
    assert {"pesq", "visqol", "speaker_similarity"} <= found["not_measured"].keys()
    assert "Resemblyzer" in found["not_measured"]["speaker_similarity"]
    assert found["roles"][1]["quality"] == {"recordings": 1}
    other = tokens.run(bundle, tiny.make_semantic(seed=3), [spoken], options)
    assert "trained on other tokens" in other["not_measured"]["quality of semantic tokens"]
    assert "quality" not in other["roles"][1] and "quality" in other["roles"][2]


def test_recordings_are_drawn_fairly_and_the_same_again(spoken, tmp_path):
    few = recordings.choose([spoken], 6, 1.5, seed=0)
    assert len({one.speaker for one in few}) == 2 and len(few) == 6  # five of each are wanted, there are three
    assert [one.item.id for one in few] == [one.item.id for one in recordings.choose([spoken], 6, 1.5, seed=0)]
    assert few[0].wave(8000).shape == (12_000,) and few[0].notes is None
    many = tmp_path / "many"
    tiny.corpus(many, 18, 1.2)
    whose = ["quiet", "quiet", "shy", *(5 * ["a"]), *(5 * ["b"]), *(5 * ["c"])]
    lines = [json.dumps({"path": f"clip{index:03d}.wav", "speaker": name}) for index, name in enumerate(whose)]
    (many / "manifest.jsonl").write_text("\n".join(lines))
    for seed in range(4):
        assert {one.item.facts["speaker"] for one in recordings.choose([many], 10, 1.5, seed)} <= set("abc")
    assert {one.item.facts["speaker"] for one in recordings.choose([many], 25, 1.5, 0)} == set(whose)
    lonely = tmp_path / "lonely"
    tiny.corpus(lonely, 3, 1.0)
    with pytest.raises(SegueError, match="3 recordings and 0 known speakers"):
        recordings.choose([lonely], 6, 1.0, seed=0)


def test_frames_and_spans_are_taken_where_they_are():
    row = representations.Representation("clock", 10.0, lambda one: one.mfcc)
    spans = [Span("a", 0.0, 0.1), Span("b", 0.31, 0.59), Span("c", 0.95, 1.2)]
    nothing = torch.zeros(0)
    one = representations.Encoded(None, spans, torch.arange(10.0)[:, None], [], nothing, nothing, 0.0, 0.0)
    assert representations.middles(row, [one])[:, 0].tolist() == [0, 4, 9]
    assert [part[:, 0].tolist() for part in representations.segments(row, [one])] == [[0], [3, 4, 5], [9]]
    labels = representations.frame_labels(one, ["a", "b", "c"], 10.0, 10)
    assert labels.tolist() == [0, -1, -1, 1, 1, 1, -1, -1, -1, -1]


def test_mfcc_has_a_row_each_10_ms_and_no_mean():
    found = representations.mfcc(torch.from_numpy(tiny.sound(1.0)))
    assert found.shape == (100, 13) and found.mean(0).abs().max() < 1e-4


def test_the_verb_writes_figures_and_a_table(cli, bundle_folder, spoken, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "PhoneAligner", Aligner)
    out, common = tmp_path / "report", ("--bundle", bundle_folder, "--data", spoken, "--prompt-seconds", 0.5)
    common = ("evaluate", "tokens", *common, "--seconds", 0.5, "--max-seconds", 1.5, "--resynthesised", 0)
    soundfile.write(spoken / "9.wav", tiny.sound(2.6, 9), tiny.RATE)
    done = cli(*common, "--limit", 6, "--out", out)
    assert done.code == 0, done.err + done.out
    assert "semantic tokens" in done.out and "codes, 12 codebooks" in done.out
    assert section.read(out / "tokens.json").suite == "tokens"
    assert (out / "tokens.json").exists() and "tokens: kept" in cli(*common, "--limit", 6, "--out", out).err
    chords = cli(*common, "--limit", 6, "--out", out, "--labels", "chord")
    assert chords.code == 0 and "no MIDI file of its name" in chords.out
    assert cli(*common, "--out", out, "--labels", "words").code == 2
    unknown = cli(*common, "--out", out, "--semantic", "hf:facebook/hubert-base-ls960@9")
    assert unknown.code == 2 and "segue train semantic --encoder" in unknown.err


def test_labels_and_scores_are_kept(bundle, spoken, tmp_path, monkeypatch):
    heard = []

    class Counting(Aligner):
        def __call__(self, wave, transcript=None):
            heard.append(len(wave))
            return super().__call__(wave, transcript)

    monkeypatch.setattr(tokens, "PhoneAligner", Counting)
    scorer_stubs.use(
        monkeypatch, pesq=lambda original, made: float(abs(original - made).mean()), visqol=lambda *waves: math.nan
    )
    options = tokens.Options(limit=4, seconds=1.0, resynthesised=1, resynthesis_seconds=0.4)
    keep = Cache(tmp_path).value
    first = tokens.run(bundle, bundle.semantic, [spoken], options, keep=keep)
    count = len(heard)
    monkeypatch.setattr(type(bundle), "acoustic_generation", lambda *a, **k: pytest.fail("made again"))
    again = tokens.run(bundle, bundle.semantic, [spoken], options, keep=keep)
    assert count and len(heard) == count and again["roles"] == first["roles"]
    quality = first["roles"][1]["quality"]
    assert quality["pesq"] > 0 and quality["visqol"] is None and quality["recordings"] == 1


def test_a_picture_of_the_figures(result, tmp_path):
    pytest.importorskip("matplotlib")
    from segue.evaluate.plots import token_report

    token_report(result, tmp_path / "roles.png")
    assert (tmp_path / "roles.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SegueError, match="nothing to draw"):
        token_report({"roles": [{"name": "MFCC"}], "layers": []}, tmp_path / "none.png")


def test_the_verb_tokens_prints_times_that_add_up(cli, bundle, bundle_folder, speech):
    shown = cli("tokens", speech, "--bundle", bundle_folder)
    assert shown.code == 0, shown.err
    rows = [line.split() for line in shown.out.splitlines()[1:]]
    starts, lengths = ([float(row[column]) for row in rows] for column in (0, 1))
    assert starts[0] == 0 and starts[1:] == pytest.approx([a + b for a, b in zip(starts, lengths, strict=True)][:-1])
    told = json.loads(cli("tokens", speech, "--bundle", bundle_folder, "--json").out)
    again = restore(torch.tensor(told["units"]), torch.tensor(told["durations"]))
    wave = audio.read(speech, 16_000).wave
    assert torch.equal(again, bundle.semantic.encode(wave[None])[0]) and len(again) == math.ceil(len(wave) / 640)
    assert [int(row[2]) for row in rows] == told["units"]


def test_the_verb_tokens_draws(cli, bundle_folder, speech, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = cli("tokens", speech, "--bundle", bundle_folder, "--png", tmp_path / "tokens.png")
    assert drawn.code == 0, drawn.err
    assert (tmp_path / "tokens.png").read_bytes().startswith(b"\x89PNG")
    both = cli("tokens", speech, "--bundle", bundle_folder, "--png", tmp_path / "beside.png", "--json")
    assert both.code == 0 and json.loads(both.out)["units"] and (tmp_path / "beside.png").exists()
    assert cli("tokens", speech, "--png", tmp_path / "tokens.jpg").code == 2
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    missing = cli("tokens", speech, "--bundle", bundle_folder, "--png", tmp_path / "again.png")
    assert missing.code == 2 and 'pip install "segue[eval]"' in missing.err and not (tmp_path / "again.png").exists()
