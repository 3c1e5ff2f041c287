"""A folder to a token store: both streams from the same sample on, going on after a stop, every file accounted for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import tiny
import torch
from clocks import CodeClock, SampleClock, ramp

from segue.data import corpus
from segue.data.corpus import encode_aligned, tokenise
from segue.data.store import TokenStore
from segue.errors import SegueError


@pytest.fixture
def ramps(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for index, seconds in enumerate([1.0, 0.333, 1.99]):
        ramp(folder / f"r{index}.wav", seconds)
    return folder


def test_semantic_and_codes_of_a_clip_start_at_the_same_sample(tmp_path, ramps):
    done = tokenise([ramps], tmp_path / "store", SampleClock(), CodeClock())
    assert (done.written, done.kept, done.skipped) == (3, 0, 0)
    store = TokenStore.open(tmp_path / "store")
    for clip in range(3):
        semantic, codes = store.semantic(clip), store.codes(clip)
        samples = round(store.facts[clip]["seconds"] * 16_000)
        assert len(semantic) == -(-samples // 640) and len(codes) == 2 * len(semantic)
        whole = samples // 320
        assert codes[:whole, 0].tolist() == list(range(whole))
        assert semantic.tolist() == list(range(len(semantic)))


def test_real_tokenizers_fill_whole_semantic_frames(bundle):
    for samples in (1600, 16_000, 15_999, 641):
        tokens, codes = encode_aligned(torch.from_numpy(tiny.sound(samples / 16_000)), bundle.semantic, bundle.codec)
        assert tokens.shape == (-(-samples // 640),) and codes.shape == (12, 2 * tokens.shape[0])


def test_it_goes_on_where_it_stopped(tmp_path, ramps):
    class Stops(CodeClock):
        def encode(self, wave, lengths=None):
            if wave.shape[1] > 30_000:
                raise InterruptedError
            return super().encode(wave, lengths)

    with pytest.raises(InterruptedError):
        tokenise([ramps], tmp_path / "store", SampleClock(), Stops())
    tokenise([ramps], tmp_path / "store", SampleClock(), CodeClock(), files=lambda path: path.name != "r2.wav")
    told = []
    done = tokenise([ramps], tmp_path / "store", SampleClock(), CodeClock(), lambda *counts: told.append(counts))
    assert (done.written, done.kept) == (1, 2) and told[-1] == (3, 3)
    again = tokenise([ramps], tmp_path / "store", SampleClock(), CodeClock())
    assert (again.written, again.kept, again.seconds) == (0, 3, 0.0)
    assert len(TokenStore.open(tmp_path / "store")) == 3


def test_skipped_files_are_listed_with_the_reason_and_progress_reaches_the_end(tmp_path, ramps):
    (ramps / "diary.wav").write_text("no sound")
    soundfile.write(ramps / "zz-silence.wav", np.zeros(8000, dtype=np.int16), 16_000)
    told = []
    done = tokenise([ramps], tmp_path / "store", SampleClock(), CodeClock(), lambda *counts: told.append(counts))
    assert (done.written, done.skipped) == (3, 2) and told[-1] == (5, 5)
    listed = [json.loads(line) for line in (tmp_path / "store" / "skipped.jsonl").read_text().splitlines()]
    assert [line["path"].rsplit("/", 1)[1] for line in listed] == ["diary.wav", "zz-silence.wav"]
    assert "not a sound file" in listed[0]["reason"] and "silence" in listed[1]["reason"]


def test_no_usable_file_is_an_error(tmp_path):
    (tmp_path / "a.wav").write_text("no sound")
    with pytest.raises(SegueError, match=r"no sound file could be used \(1 skipped\)"):
        tokenise([tmp_path], tmp_path / "store", SampleClock(), CodeClock())
    with pytest.raises(SegueError, match="no such folder"):
        tokenise([tmp_path / "nowhere"], tmp_path / "store", SampleClock(), CodeClock())


def test_a_store_of_another_codec_is_refused(tmp_path, ramps):
    tokenise([ramps], tmp_path / "store", SampleClock(), CodeClock())
    other = CodeClock()
    other.codes_fingerprint = "another"
    with pytest.raises(SegueError, match="codec_fingerprint"):
        tokenise([ramps], tmp_path / "store", SampleClock(), other)


class Levels(CodeClock):
    """Codes of the sound's level, at rates of its own."""

    fingerprint = codes_fingerprint = "levels"

    def __init__(self, sample_rate, hop_length):
        self.sample_rate, self.hop_length = sample_rate, hop_length
        self.frame_rate = sample_rate / hop_length

    def encode(self, wave, lengths=None):
        framed = torch.nn.functional.pad(wave, (0, -wave.shape[1] % self.hop_length)).unfold(1, *[self.hop_length] * 2)
        return (framed.mean(dim=2) * 1000).round().long().clamp(min=0)[:, None].expand(-1, 2, -1)


@pytest.mark.parametrize(("rate", "hop"), [(24_000, 320), (16_000, 640), (44_100, 882), (24_000, 240)])
def test_tokenizers_of_two_rates_hear_the_same_instants(tmp_path, rate, hop):
    """A sound that grows louder step by step, 40 ms each: every frame of either stream tells which step it lies in."""
    steps = np.repeat(np.arange(1, 26) / 30, 1280)[:31_000]
    soundfile.write(tmp_path / "x.wav", steps, 32_000, subtype="FLOAT")
    semantic, codec = Levels(16_000, 640), Levels(rate, hop)
    semantic.vocab_size = 5000
    semantic.encode = lambda wave: Levels.encode(semantic, wave)[:, 0]
    tokenise([tmp_path], tmp_path / "store", semantic, codec)
    store = TokenStore.open(tmp_path / "store")
    ratio = round(codec.frame_rate / 25)
    assert store.codes(0).shape == (25 * ratio, 2)
    tokens, codes = store.semantic(0), store.codes(0)[:, 0].reshape(25, ratio)
    expected = np.arange(1, 25) / 30 * 1000
    assert np.abs(tokens[:24] - expected).max() < 3
    assert np.abs(codes[:24].mean(axis=1) - expected).max() < 3


def test_frames_that_never_meet_are_refused(tmp_path, ramps):
    with pytest.raises(SegueError, match=r"86\.1328 Hz and semantic tokens at 25 Hz never share"):
        tokenise([ramps], tmp_path / "store", SampleClock(), Levels(44_100, 512))
    assert not (tmp_path / "store").exists()


def test_the_manifest_tells_who_is_heard(tmp_path, ramps):
    facts = {"path": "r1.wav", "speaker": "s7", "licence": "CC0", "consent": "form 12", "source": "studio"}
    (ramps / "manifest.jsonl").write_text(json.dumps(facts) + "\n")
    tokenise([ramps], tmp_path / "store", SampleClock(), CodeClock())
    rows = {row["id"]: row for row in TokenStore.open(tmp_path / "store").facts}
    told = {key: rows["sounds/r1.wav"][key] for key in ("speaker", "licence", "consent", "source")}
    assert told == {key: value for key, value in facts.items() if key != "path"}
    assert rows["sounds/r0.wav"]["speaker"] == "" and rows["sounds/r0.wav"]["consent"] is None
    assert rows["sounds/r0.wav"]["source"] == "sounds"


@pytest.mark.parametrize("line", ["{", "[]", '{"speaker": "x"}', "3"])
def test_a_manifest_that_can_not_be_read_is_named_with_its_line(tmp_path, line):
    (tmp_path / "manifest.jsonl").write_text('{"path": "x.wav"}\n' + line + "\n")
    with pytest.raises(SegueError, match=r"manifest\.jsonl, line 2"):
        corpus.read_manifest(tmp_path)


def test_two_folders_may_hold_files_of_one_name(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        ramp(tmp_path / name / "x.wav", 1.0)
    tokenise([tmp_path / "a", tmp_path / "b"], tmp_path / "store", SampleClock(), CodeClock())
    assert {row["id"] for row in TokenStore.open(tmp_path / "store").facts} == {"a/x.wav", "b/x.wav"}


def test_what_is_added_later_alone_is_tokenised(tmp_path, ramps):
    store = tmp_path / "store"
    tokenise([ramps], store, SampleClock(), CodeClock())
    ramp(ramps / "a-new.wav", 0.5)
    ramp(tmp_path / "more" / "r0.wav", 0.6)
    done = tokenise([tmp_path / "more", ramps], store, SampleClock(), CodeClock())
    assert (done.written, done.kept) == (2, 3)
    ids = [row["id"] for row in TokenStore.open(store).facts]
    assert len(ids) == len(set(ids)) == 5 and {"more/r0.wav", "sounds/r0.wav", "sounds/a-new.wav"} < set(ids)


@pytest.mark.parametrize(("hours", "names"), [(0.9, ["r0"]), (1.1, ["r0", "r1"]), (1.34, ["r0", "r1", "r2"])])
def test_hours_stop_it_wherever_it_begins(tmp_path, ramps, hours, names):
    (ramps / "diary.wav").write_text("no sound")
    for _ in range(2):
        tokenise([ramps], tmp_path / "store", SampleClock(), CodeClock(), hours=hours / 3600)
        assert [row["id"] for row in TokenStore.open(tmp_path / "store").facts] == [f"sounds/{n}.wav" for n in names]


def test_what_was_skipped_stays_listed_until_it_is_tried_again(tmp_path, ramps):
    (tmp_path / "bad").mkdir()
    for name in ("one", "two"):
        (tmp_path / "bad" / f"{name}.wav").write_text("no sound")
    store = tmp_path / "store"
    tokenise([tmp_path / "bad", ramps], store, SampleClock(), CodeClock())
    assert tokenise([ramps], store, SampleClock(), CodeClock()).skipped == 0
    ramp(tmp_path / "bad" / "one.wav", 0.5)
    for _ in range(2):
        listed = [json.loads(line)["id"] for line in (store / "skipped.jsonl").read_text().splitlines()]
        assert listed == (["bad/two.wav"] if (tmp_path / "again").exists() else ["bad/one.wav", "bad/two.wav"])
        tokenise([tmp_path / "bad"], store, SampleClock(), CodeClock())
        (tmp_path / "again").touch()


def test_two_runs_never_write_at_once(tmp_path, ramps):
    class Nested(CodeClock):
        def encode(self, wave, lengths=None):
            with pytest.raises(SegueError, match="another run is writing"):
                tokenise([ramps], tmp_path / "store", SampleClock(), CodeClock())
            return super().encode(wave, lengths)

    assert tokenise([ramps], tmp_path / "store", SampleClock(), Nested()).written == 3
    assert len(TokenStore.open(tmp_path / "store")) == 3
