"""A folder to a token store: both streams from the same sample on, going on after a stop, every file accounted for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import tiny
import torch

from segue.data import corpus
from segue.data.corpus import encode_aligned, tokenise
from segue.data.store import TokenStore
from segue.errors import SegueError


class SampleClock:
    """A stand-in whose codes tell which samples they were made from."""

    sample_rate, fingerprint = 16_000, "clock-semantic"
    hop_length, frame_rate, vocab_size = 640, 25.0, 5000

    def encode(self, wave, lengths=None):
        return (wave[:, :: self.hop_length] * 2**15).round().long() // 640


class CodeClock:
    sample_rate, fingerprint = 16_000, "clock-codec"
    hop_length, frame_rate, num_codebooks, codebook_size = 320, 50.0, 2, 5000

    def encode(self, wave, lengths=None):
        time = (wave[:, :: self.hop_length] * 2**15).round().long() // 320
        return torch.stack([time, time], dim=1)


def ramp(path, seconds: float) -> None:
    """Sample n has the value n: a sound that tells its own time."""
    soundfile.write(path, np.arange(1, round(16_000 * seconds) + 1, dtype=np.int16), 16_000)


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
    other.fingerprint = "another"
    with pytest.raises(SegueError, match="codec_fingerprint"):
        tokenise([ramps], tmp_path / "store", SampleClock(), other)


def test_tokenizers_of_two_rates_are_refused(tmp_path, ramps):
    other = CodeClock()
    other.sample_rate = 24_000
    with pytest.raises(SegueError, match="24000 Hz don't mix"):
        tokenise([ramps], tmp_path / "store", SampleClock(), other)


def test_the_manifest_tells_who_is_heard(tmp_path, ramps):
    facts = {"path": "r1.wav", "speaker": "s7", "licence": "CC0", "consent": "form 12", "source": "studio"}
    (ramps / "manifest.jsonl").write_text(json.dumps(facts) + "\n")
    tokenise([ramps], tmp_path / "store", SampleClock(), CodeClock())
    rows = {row["id"]: row for row in TokenStore.open(tmp_path / "store").facts}
    told = {key: rows["r1.wav"][key] for key in ("speaker", "licence", "consent", "source")}
    assert told == {key: value for key, value in facts.items() if key != "path"}
    assert rows["r0.wav"]["speaker"] == "" and rows["r0.wav"]["consent"] is None
    assert rows["r0.wav"]["source"] == "sounds"


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
