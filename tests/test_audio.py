"""Sound files: every format and rate comes in as one kind of wave, bad ones cost one line, none is half written."""

from __future__ import annotations

import errno
import io
import struct

import numpy as np
import pytest
import soundfile
import tiny
import torch

from segue import audio, ogg
from segue.errors import SegueError

FORMATS = ["wav", "flac", "ogg", "mp3"]


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def pitch(wave: torch.Tensor, rate: int) -> float:
    spectrum = torch.fft.rfft(wave * torch.hann_window(wave.shape[0])).abs()
    return int(spectrum.argmax()) * rate / wave.shape[0]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
def test_every_format_at_every_rate_is_the_same_tone(tmp_path, suffix, rate):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(1.0, rate), rate)
    recording = audio.read(path, 16_000)
    assert recording.wave.ndim == 1 and recording.wave.dtype == torch.float32 and recording.sample_rate == 16_000
    coder_delay = 0.1 if suffix == "mp3" else 0.0
    assert recording.seconds == pytest.approx(1.0, abs=0.0005 + coder_delay)
    assert pitch(recording.wave, 16_000) == pytest.approx(440, abs=1.5)
    assert recording.wave[4000:12_000].abs().max() == pytest.approx(0.5, abs=0.06)
    resampled = [] if rate == 16_000 else [f"resampled from {rate} Hz to 16000 Hz"]
    assert list(recording.notes) == resampled


@pytest.mark.parametrize("suffix", FORMATS)
def test_stereo_is_mixed_down_and_says_so(tmp_path, suffix):
    path = tmp_path / f"both.{suffix}"
    left = tone(0.5, 16_000)
    soundfile.write(path, np.stack([left, 0 * left], axis=1), 16_000)
    recording = audio.read(path, 16_000)
    assert recording.wave.ndim == 1
    assert recording.wave[2000:6000].abs().max() == pytest.approx(0.25, abs=0.02)
    assert any("2 channels mixed down" in note for note in recording.notes)


def test_resampling_keeps_what_is_below_half_the_rate_and_nothing_else(tmp_path):
    path = tmp_path / "high.wav"
    soundfile.write(path, tone(1.0, 48_000, 11_000), 48_000)
    assert audio.read(path, 16_000).wave[1000:-1000].abs().max() < 1e-3


@pytest.mark.parametrize("samples", [1600, 16_001, 12_345])
def test_length_after_resampling(tmp_path, samples):
    path = tmp_path / "x.wav"
    soundfile.write(path, tiny.sound(samples / 44_100, sample_rate=44_100), 44_100)
    frames = soundfile.info(path).frames
    if frames < 4410:
        with pytest.raises(SegueError):
            audio.read(path, 16_000)
        return
    assert audio.read(path, 16_000).wave.shape[0] == pytest.approx(frames * 16_000 / 44_100, abs=1)


def test_sound_beyond_full_scale_is_scaled_down_and_says_so(tmp_path):
    path, loud = tmp_path / "loud.wav", 40 * tone(1.0, 16_000)
    soundfile.write(path, loud, 16_000, subtype="FLOAT")
    recording = audio.read(path, 16_000)
    assert recording.notes == ("scaled down from a peak of 20, full scale is 1",)
    np.testing.assert_allclose(recording.wave.numpy(), loud / 20, atol=1e-6)
    soundfile.write(path, loud / 20, 16_000, subtype="FLOAT")
    assert audio.read(path, 16_000).notes == ()


def test_a_rate_in_kilohertz_is_found_everywhere(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, tone(1.0, 16_000), 16)
    for use in (audio.header, audio.duration_seconds, lambda path: audio.read_crop(path, 0.0, 1.0, 16_000)):
        with pytest.raises(SegueError, match="a sample rate of 16 Hz"):
            use(path)


def spoilt(kind: str, folder) -> object:
    path = folder / f"{kind}.wav"
    good = tone(1.0, 16_000)
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("this is a diary, not a sound " * 50)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "header":
        path.write_bytes(b"RIFF" + struct.pack("<I", 36) + b"WAVE")
    elif kind == "raw":
        path = folder / "x.raw"
        path.write_bytes(good.tobytes())
    elif kind == "no_samples":
        soundfile.write(path, good[:0], 16_000)
    elif kind == "short":
        soundfile.write(path, good[:1599], 16_000)
    elif kind == "silence":
        soundfile.write(path, 0 * good, 16_000)
    elif kind in ("nan", "infinity"):
        good[77] = float(kind)
        soundfile.write(path, good, 16_000, subtype="FLOAT")
    elif kind == "one_hertz":
        soundfile.write(path, good, 1)
    elif kind == "rubbish":
        path = folder / "rubbish.mp3"
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    return path


BAD = {
    "missing": "no such file",
    "folder": "a folder, not a sound file",
    "text": "not a sound file",
    "empty": "the file is empty",
    "header": "not a sound file|no samples",
    "raw": "not a sound file",
    "no_samples": "no samples",
    "one_hertz": "a sample rate of 1 Hz, below 1000; give the real one",
    "short": r"0\.100 s|at least 0\.1 s",
    "silence": "silence",
    "nan": "NaN",
    "infinity": "infinite",
    "rubbish": "not a sound file|s of sound|no samples",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_line_with_its_path(tmp_path, kind):
    path = spoilt(kind, tmp_path)
    with pytest.raises(SegueError, match=BAD[kind]) as caught:
        audio.read(path, 16_000)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_tenth_of_a_second_is_enough(tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(0.1, 16_000), 16_000)
    assert audio.read(tmp_path / "x.wav", 16_000).wave.shape == (1600,)


def test_a_crop_is_that_part_of_the_file(tmp_path):
    soundfile.write(tmp_path / "x.wav", tiny.sound(1.0), 16_000)
    whole = audio.read(tmp_path / "x.wav", 16_000).wave.numpy()
    assert np.array_equal(audio.read_crop(tmp_path / "x.wav", 0.25, 0.5, 16_000), whole[4000:12_000])
    assert np.array_equal(audio.read_crop(tmp_path / "x.wav", 0.75, 0.5, 16_000), whole[12_000:])
    assert audio.read_crop(tmp_path / "x.wav", 2.0, 0.5, 16_000).shape == (0,)


def test_a_crop_that_can_not_be_read_is_one_line(tmp_path):
    path = tmp_path / "x.flac"
    soundfile.write(path, tiny.sound(2.0), 16_000)
    broken = bytearray(path.read_bytes())
    broken[len(broken) // 2 :] = np.random.default_rng(0).bytes(len(broken) - len(broken) // 2)
    path.write_bytes(broken)
    assert audio.duration_seconds(path) == 2.0
    with pytest.raises(SegueError, match=r"x\.flac"):
        audio.read_crop(path, 1.0, 0.5, 16_000)


def test_a_crop_with_nan_is_one_line(tmp_path):
    wave = tiny.sound(1.0)
    wave[9000] = np.nan
    soundfile.write(tmp_path / "x.wav", wave, 16_000, subtype="FLOAT")
    assert audio.read_crop(tmp_path / "x.wav", 0.0, 0.5, 16_000).shape == (8000,)
    with pytest.raises(SegueError, match=r"x\.wav.*NaN"):
        audio.read_crop(tmp_path / "x.wav", 0.5, 0.5, 16_000)


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_is_read(tmp_path, suffix):
    path = tmp_path / "new" / f"x.{suffix}"
    wave = torch.from_numpy(tone(1.0, 16_000))
    audio.write(path, wave, 16_000)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    read = audio.read(path, 16_000).wave
    assert pitch(read, 16_000) == pytest.approx(440, abs=1.5)
    if suffix in ("wav", "flac"):
        assert soundfile.info(path).subtype == "PCM_16"
        assert torch.allclose(read, wave, atol=2**-15)


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_sound_is_the_same_file(tmp_path, suffix):
    wave = torch.from_numpy(tiny.sound(3.0))
    for name in ("one", "two"):
        audio.write(tmp_path / f"{name}.{suffix}", wave, 16_000)
    assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_the_same_sound_is_the_same_in_few_bytes(rate):
    wave = torch.from_numpy(tiny.sound(3.0))
    held, kind = audio.compressed(wave, rate)
    assert held == audio.compressed(wave, rate)[0] and kind.startswith("audio/ogg")
    samples, found = soundfile.read(io.BytesIO(held))
    assert found == rate and abs(len(samples) - len(wave)) < 0.05 * rate


def test_a_stream_is_renumbered_and_nothing_else(tmp_path):
    """The checksums that come with a file are those that are reckoned here, and a reader goes by them."""
    written = io.BytesIO()
    soundfile.write(written, tiny.sound(3.0), 16_000, "VORBIS", format="OGG")
    before = written.getvalue()
    stream = before[14:18]
    renumbered = io.BytesIO(before)
    ogg.renumber(renumbered)
    after = renumbered.getvalue()
    assert len(after) == len(before) and stream not in after and after[14:18] == ogg.STREAM
    first = bytearray(before[: before.index(b"OggS", 4)])
    found, first[22:26] = first[22:26], bytes(4)
    assert int.from_bytes(found, "little") == ogg.checksum(first)
    one, two = (soundfile.read(io.BytesIO(data))[0] for data in (before, after))
    assert np.array_equal(one, two) and len(one) == 48_000
    for broken in (before[:-1], before[:10], b"RIFF" + before):
        with pytest.raises(SegueError, match="no whole page of Ogg"):
            ogg.renumber(io.BytesIO(broken))


def test_loud_samples_are_clipped_not_wrapped(tmp_path):
    audio.write(tmp_path / "x.wav", torch.tensor([2.0, -2.0, 0.5]).repeat(800), 16_000)
    read = audio.read(tmp_path / "x.wav", 16_000).wave[:3]
    assert torch.allclose(read, torch.tensor([1.0, -1.0, 0.5]), atol=1e-4)


@pytest.mark.parametrize("name", ["x.txt", "x", "x.opus"])
def test_a_format_that_can_not_be_written_is_refused(tmp_path, name):
    with pytest.raises(SegueError, match=r"use \.wav, \.flac, \.ogg, \.mp3"):
        audio.write(tmp_path / name, torch.zeros(1600), 16_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["file/x.wav", "/proc/x.wav"])
def test_a_place_that_can_not_be_written_is_one_line(tmp_path, where):
    (tmp_path / "file").write_text("")
    with pytest.raises(SegueError, match=r"x\.wav: can't be written") as caught:
        audio.write(tmp_path / where, torch.zeros(1600), 16_000)
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.wav"
    audio.write(path, torch.ones(1600), 16_000)
    before = path.read_bytes()

    def full_disk(file, samples):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", full_disk)
    for target in (path, tmp_path / "new.flac"):
        with pytest.raises(SegueError, match="No space left on device"):
            audio.write(target, torch.zeros(1600), 16_000)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["x.wav"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_too_large_for_the_disk_leaves_nothing(tmp_path, suffix, small_disk):
    noise = 0.1 * torch.randn(80_000, generator=tiny.rng())
    with small_disk(), pytest.raises(SegueError, match="check folder and space"):
        audio.write(tmp_path / f"x.{suffix}", noise, 16_000)
    assert list(tmp_path.iterdir()) == []


def test_find_goes_by_suffix_in_a_fixed_order(tmp_path):
    for name in ("b.wav", "a.MP3", "deep/er/c.flac", "notes.txt", "z.ogg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in audio.find(tmp_path)]
    assert found == ["a.MP3", "b.wav", "deep/er/c.flac", "z.ogg"]
    with pytest.raises(SegueError, match="no such folder"):
        list(audio.find(tmp_path / "b.wav"))
