"""Random crops: a function of seed and step, padded where a file is short, and nothing skipped in silence."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import tiny
import torch

from segue import audio
from segue.data.clips import Clips
from segue.errors import SegueError


def clips(*folders, seed=0, **more) -> Clips:
    return Clips(folders, 16_000, 0.5, 4, seed, **more)


def test_a_batch_is_a_function_of_seed_and_step(tmp_path):
    folder = tiny.corpus(tmp_path / "a", 5, 2.0)
    first, second = clips(folder), clips(folder)
    wave, lengths = first.batch(3)
    assert wave.shape == (4, 8000) and wave.dtype == torch.float32
    assert lengths.tolist() == [8000] * 4 and lengths.dtype == torch.int64
    second.batch(0)
    assert torch.equal(second.batch(3)[0], wave)
    assert not torch.equal(first.batch(4)[0], wave)
    assert not torch.equal(clips(folder, seed=1).batch(3)[0], wave)


def test_crops_are_cut_from_the_files_as_they_are(tmp_path):
    folder = tiny.corpus(tmp_path / "a", 1, 2.0)
    whole, _ = soundfile.read(folder / "clip000.wav", dtype="float32")
    starts = set()
    for row in torch.cat([clips(folder).batch(step)[0] for step in range(3)]):
        found = [s for s in np.flatnonzero(whole == float(row[0])) if np.array_equal(whole[s : s + 8000], row.numpy())]
        assert found
        starts.update(found)
    assert len(starts) > 6 and max(starts) - min(starts) > 8000


def test_short_files_are_padded_and_their_lengths_told(tmp_path):
    folder = tiny.corpus(tmp_path / "a", 2, 0.2)
    wave, lengths = clips(folder).batch(0)
    assert wave.shape == (4, 8000) and lengths.tolist() == [3200] * 4
    assert (wave[:, 3200:] == 0).all() and wave[:, :3200].abs().sum() > 0


def test_other_rates_are_resampled(tmp_path):
    soundfile.write(tmp_path / "x.flac", tiny.sound(2.0, sample_rate=44_100), 44_100)
    wave, lengths = clips(tmp_path).batch(0)
    assert wave.shape == (4, 8000) and (abs(lengths - 8000) <= 1).all()


def test_skipped_files_are_counted_with_the_reason(tmp_path):
    folder = tiny.corpus(tmp_path / "a", 3, 1.0)
    (folder / "bad.mp3").write_text("no sound here")
    (folder / "void.wav").write_bytes(b"")
    soundfile.write(folder / "short.wav", tiny.sound(0.05), 16_000)
    made = clips(folder)
    assert len(made.paths) == 3 and made.hours == pytest.approx(3 / 3600)
    assert len(made.skipped) == 3
    for name in ("bad.mp3", "void.wav", "short.wav: 0.050 s"):
        assert any(name in line for line in made.skipped), name


def test_folders_share_by_hours_or_by_weight(tmp_path):
    few, many = tiny.corpus(tmp_path / "few", 1, 1.0), tiny.corpus(tmp_path / "many", 3, 3.0)
    assert clips(few, many).probabilities == pytest.approx([0.1, 0.3, 0.3, 0.3])
    weighted = clips(few, many, weights=(3.0, 1.0))
    assert weighted.probabilities == pytest.approx([0.75, *[0.25 / 3] * 3])


def test_files_may_be_left_out(tmp_path):
    folder = tiny.corpus(tmp_path / "a", 4, 1.0)
    assert [path.name for path in clips(folder, files=lambda path: "2" in path.name).paths] == ["clip002.wav"]


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -0.5), (0.0, 0.0), (1.0, float("nan"))])
def test_weights_that_make_no_share_are_refused(tmp_path, weights):
    folders = [tiny.corpus(tmp_path / name, 1, 1.0) for name in "ab"]
    with pytest.raises(SegueError, match="weights"):
        clips(*folders, weights=weights)


def test_a_folder_without_sound_is_refused(tmp_path):
    (tmp_path / "a.wav").write_text("no sound")
    with pytest.raises(SegueError, match=r"no sound files that can be read \(1 skipped\)"):
        clips(tmp_path)
    with pytest.raises(SegueError, match="no such folder"):
        clips(tmp_path / "nowhere")


def test_rows_are_those_of_the_whole_batch_and_no_others_are_read(tmp_path, monkeypatch):
    made, read = clips(tiny.corpus(tmp_path / "a", 5, 2.0)), []
    whole = made.batch(3)
    crop = audio.read_crop
    monkeypatch.setattr(audio, "read_crop", lambda *rest: (read.append(rest[0]), crop(*rest))[1])
    for rows in (slice(0, 2), slice(2, 4)):
        wave, lengths = made.batch(3, rows)
        assert torch.equal(wave, whole[0][rows]) and torch.equal(lengths, whole[1][rows])
    assert len(read) == 4
