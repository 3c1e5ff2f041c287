"""Sound files in and out: the only file that touches them. Wave: (N,) or (B, N) mono float32 in [-1, 1].

Reading checks what it reads, mixes down to mono and resamples once; writing goes beside the target and is
renamed when complete, unless the file is to be played while it grows.
"""

from __future__ import annotations

import io
import struct
import sys
import wave as wave_file
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from segue import ogg, units
from segue.artifact import written_file
from segue.errors import SegueError

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
MINIMUM_SECONDS = 0.1
SILENCE_DB = -80.0
FLOOR_DB = -100.0
LEVEL_SECONDS = 0.02
"""Of a frame whose level is told."""
LOWEST_RATE = 1000
"""Of sound that is read, in Hz: below it stands a header that is wrong, or kHz."""
_OPUS_RATES = (8000, 12_000, 16_000, 24_000, 48_000)
_UNREADABLE = (soundfile.LibsndfileError, TypeError)  # TypeError: a headerless .raw file


@dataclass(frozen=True)
class Recording:
    """A sound file as read.

    Attributes:
        wave: (N,) mono float32 at `sample_rate`.
        sample_rate: in Hz, after resampling.
        notes: what was done to it (mixed down, resampled, scaled down), fit to be shown.
    """

    wave: Tensor
    sample_rate: int
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return units.samples_to_seconds(self.wave.shape[-1], self.sample_rate)


def read(path: Path, sample_rate: int) -> Recording:
    """Read a whole sound file as mono at `sample_rate`.

    Args:
        path: WAV, FLAC, Ogg (Vorbis, Opus) or MP3; any rate and channel count.
        sample_rate: wanted rate in Hz.

    Raises:
        SegueError: if it is missing, no sound file, empty, shorter than 0.1 s, silent, holds NaN or infinity, or claims
            a rate that no sound has.
    """
    path = Path(path)
    if not path.is_file():
        raise SegueError(f"{path}: no such file" if not path.is_dir() else f"{path}: a folder, not a sound file")
    if path.stat().st_size == 0:
        raise SegueError(f"{path}: the file is empty")
    try:
        samples, file_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    check(samples, file_rate, str(path))
    notes = []
    if samples.shape[1] > 1:
        notes.append(f"{samples.shape[1]} channels mixed down to one")
    if file_rate != sample_rate:
        notes.append(f"resampled from {file_rate} Hz to {sample_rate} Hz")
    peak = float(np.abs(samples).max())
    if peak > 1.0:
        notes.append(f"scaled down from a peak of {peak:.3g}, full scale is 1")
    wave = torch.from_numpy(to_mono(samples, file_rate, sample_rate))
    return Recording(wave, sample_rate, tuple(notes))


def check(samples: np.ndarray, sample_rate: int, name: str) -> None:
    """Refuse samples (N,) or (N, channels) that can't be worked with.

    Raises:
        SegueError: if the rate is too low for sound, or they are empty, shorter than 0.1 s, silent, or not finite.
    """
    check_rate(sample_rate, name)
    if samples.size == 0:
        raise SegueError(f"{name}: no samples in it")
    seconds = units.samples_to_seconds(samples.shape[0], sample_rate)
    if seconds < MINIMUM_SECONDS:
        raise SegueError(f"{name}: {seconds:.3f} s of sound, at least {MINIMUM_SECONDS} s are needed")
    if not np.isfinite(samples).all():
        raise SegueError(f"{name}: NaN or infinite samples; export it again")
    if np.abs(samples).max() < 10 ** (SILENCE_DB / 20):
        raise SegueError(f"{name}: nothing but silence (below {SILENCE_DB:.0f} dB)")


def check_rate(sample_rate: int, name: str) -> None:
    """Refuse a rate that no sound has.

    Raises:
        SegueError: if it is below 1000 Hz.
    """
    if sample_rate < LOWEST_RATE:
        raise SegueError(
            f"{name}: a sample rate of {sample_rate} Hz, below {LOWEST_RATE}; give the real one, such as 16000"
        )


def to_mono(samples: np.ndarray, file_rate: int, sample_rate: int) -> np.ndarray:
    """Samples (N, channels) at `file_rate` as a mono (M,) wave at `sample_rate`; floats beyond full scale, which models
    know nothing of, are scaled down to it."""
    samples = samples.astype(np.float32, copy=False)
    peak = float(np.abs(samples).max(initial=0.0))
    samples = samples / peak if peak > 1.0 else samples
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    if file_rate != sample_rate:
        mono = soxr.resample(mono, file_rate, sample_rate)
    return np.ascontiguousarray(mono, dtype=np.float32)


def levels_db(wave: Tensor, sample_rate: int) -> np.ndarray:
    """Level of each whole frame of 20 ms in dB re full scale, not below `FLOOR_DB`: (frames,)."""
    size = max(1, round(LEVEL_SECONDS * sample_rate))
    frames = wave[: len(wave) // size * size].cpu().double().reshape(-1, size)
    power = frames.square().mean(1).clamp(min=10 ** (FLOOR_DB / 10))
    return np.asarray((10 * power.log10()).numpy())


def read_crop(path: Path, start_seconds: float, seconds: float, sample_rate: int) -> np.ndarray:
    """At most `seconds` of a file from `start_seconds`, mono at `sample_rate`: (N,). Short at the file's end.

    Raises:
        SegueError: if this part of the file can't be read or holds NaN or infinity.
    """
    return to_mono(*read_as_is(path, start_seconds, seconds), sample_rate)


def read_as_is(path: Path, start_seconds: float, seconds: float) -> tuple[np.ndarray, int]:
    """At most `seconds` of a file from `start_seconds`, neither mixed nor resampled.

    Returns:
        samples (N, channels) float32, and their rate in Hz.

    Raises:
        SegueError: if this part of the file can't be read or holds NaN or infinity.
    """
    try:
        with soundfile.SoundFile(path) as file:
            file_rate = file.samplerate
            check_rate(file_rate, str(path))
            file.seek(min(units.seconds_to_samples(start_seconds, file_rate), file.frames))
            samples = file.read(units.seconds_to_samples(seconds, file_rate), dtype="float32", always_2d=True)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if not np.isfinite(samples).all():
        raise SegueError(f"{path}: NaN or infinite samples; export it again")
    return samples, file_rate


@dataclass(frozen=True)
class Header:
    """What a sound file says of itself: its length in samples a channel, rate in Hz and channels."""

    samples: int
    sample_rate: int
    channels: int

    @property
    def seconds(self) -> float:
        return units.samples_to_seconds(self.samples, self.sample_rate)


def header(path: Path) -> Header:
    """A sound file's header.

    Raises:
        SegueError: if it is no sound file, or claims a rate that no sound has.
    """
    try:
        found = soundfile.info(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    check_rate(found.samplerate, str(path))
    return Header(found.frames, found.samplerate, found.channels)


def duration_seconds(path: Path) -> float:
    """Length of a sound file in seconds, from its header.

    Raises:
        SegueError: if it is no sound file.
    """
    return header(path).seconds


def _unreadable(path: Path, error: Exception) -> SegueError:
    reason = getattr(error, "error_string", str(error)).strip(".")
    return SegueError(f"{path}: not a sound file that can be read ({reason})")


def write(path: Path, wave: Tensor, sample_rate: int) -> None:
    """Write a wave (N,) or (channels, N) as 16-bit sound; the format follows the suffix (.wav, .flac, .ogg, .mp3).

    Raises:
        SegueError: if the suffix is unknown or the place can't be written.
    """
    with written(path, sample_rate, 1 if wave.ndim == 1 else wave.shape[0]) as put:
        put(wave.T if wave.ndim > 1 else wave)


@contextmanager
def written(path: Path, sample_rate: int, channels: int = 1) -> Iterator[Callable[[Tensor], None]]:
    """As `write`, chunk by chunk: waves (n,) or (n, channels) go to what is yielded, and the file is
    there when all of them are.

    Raises:
        SegueError: if the suffix is unknown or the place can't be written.
    """
    path = Path(path)
    container = writable_format(path)
    with written_file(path) as beside:
        subtype = "PCM_16" if container in ("WAV", "FLAC") else None
        try:
            with soundfile.SoundFile(beside, "w", sample_rate, channels, subtype, format=container) as file:
                yield lambda wave: file.write(pcm(wave))
            if container == "OGG":
                with open(beside, "r+b") as raw:
                    ogg.renumber(raw)
        except soundfile.LibsndfileError as error:
            reason = error.error_string.strip(".")
            raise SegueError(f"{path}: can't be written ({reason}); check folder and space") from error


def compressed(wave: Tensor, sample_rate: int) -> tuple[bytes, str]:
    """A wave (N,) in few bytes, for a page: Ogg with Opus at some 30 kbit/s where the rate allows it, or Vorbis.

    Returns:
        the file's bytes, and its media type.

    Raises:
        SegueError: if it can't be encoded.
    """
    coding = "OPUS" if sample_rate in _OPUS_RATES else "VORBIS"
    held = io.BytesIO()
    try:
        soundfile.write(held, pcm(wave), sample_rate, coding, format="OGG")
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip(".")
        raise SegueError(f"sound at {sample_rate} Hz can't be written as Ogg {coding.title()} ({reason})") from error
    ogg.renumber(held)
    return held.getvalue(), f"audio/ogg; codecs={coding.lower()}"


@contextmanager
def growing(path: Path, sample_rate: int) -> Iterator[Callable[[Tensor], None]]:
    """A WAV file that can be played while it grows; after an interruption it holds what there was.

    Args:
        path: to write at once, or `-` for standard output.
        sample_rate: in Hz.

    Raises:
        SegueError: if the suffix is another, or the place can't be written, or nobody reads it any more.
    """
    standard = str(path) == "-"
    if not standard and writable_format(path) != "WAV":
        raise SegueError(f"{path}: only WAV can be played while it grows; give a .wav, or - for standard output")
    if standard and sys.stdout is None:
        raise SegueError("-: standard output is closed; give the name of a file")
    try:
        if standard:
            out = sys.stdout.buffer
            out.write(_endless_header(sample_rate))
            yield lambda samples: _put(out, pcm(samples).tobytes())
            return
        with open(path, "wb") as raw, wave_file.open(raw, "wb") as file:
            file.setparams((1, 2, sample_rate, 0, "NONE", ""))

            def put(samples: Tensor) -> None:
                file.writeframes(pcm(samples).tobytes())  # brings the header up to date, too
                raw.flush()

            yield put
    except BrokenPipeError as error:
        raise SegueError(f"{path}: nobody reads any more; the rest was not made") from error
    except OSError as error:
        raise SegueError(f"{path}: can't be written ({error.strerror or error}); check folder and space") from error


def pcm(samples: Tensor) -> np.ndarray:
    """A wave (N,) in [-1, 1] as 16-bit integers, clipped."""
    return (samples.detach().cpu().clamp(-1.0, 1.0) * 32767).round().to(torch.int16).numpy()


def _put(out: IO[bytes], data: bytes) -> None:
    out.write(data)
    out.flush()


def _endless_header(sample_rate: int) -> bytes:
    """Of a 16-bit mono WAV that nobody knows the length of yet."""
    unknown, block = 0xFFFFFFFF, 2
    form = struct.pack("<4sI4s", b"RIFF", unknown, b"WAVE")
    sound = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, block * sample_rate, block, 8 * block)
    return form + sound + struct.pack("<4sI", b"data", unknown)


def writable_format(path: Path) -> str:
    """The container a suffix asks for.

    Raises:
        SegueError: if it is none of those that can be written.
    """
    containers = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3"}
    if path.suffix.lower() not in containers:
        raise SegueError(f"{path}: can't write {path.suffix or 'a file with no suffix'}; use {', '.join(containers)}")
    return containers[path.suffix.lower()]


def find(folder: Path) -> Iterator[Path]:
    """Every sound file under `folder`, by suffix, in a fixed order.

    Raises:
        SegueError: if there is no such folder.
    """
    if not folder.is_dir():
        raise SegueError(f"{folder}: no such folder")
    yield from sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
