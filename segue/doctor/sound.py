"""What one recording is like as sound: level, clipping, silence, offset, bandwidth. Samples: (N, channels) float32.

Spectra are in dB below a full-scale sine in one bin of 1024 samples, so that the rounding of 16-bit files lies near
-108 dB, whatever the recording.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from segue import audio

SILENT_BELOW_DB = -65.0
"""A frame below this level is silence: some 30 dB above the rounding of 16 bits, 45 dB below ordinary speech."""
SILENT_BELOW_LOUD_DB = -45.0
"""So is one so far below the recording's loud frames: pauses in a clean room are 40 to 60 dB down."""
CLIPPED_RUN = 3
"""Samples of the recording's extreme value in a row that make a clip: a sine meets its peak once or twice."""
CLIPPED_FROM = 0.25
"""Extremes below this are soft sounds in few steps, not clipping; clipped material that was turned down stays above."""
NOTHING_DB = -98.0
"""A spectrum below this holds nothing but rounding."""
CLIFF_DB = 9.0
"""How much a spectrum must fall over 750 Hz for its end to be a filter's and not the instrument's."""
_WINDOW = 1024
_BAND_HZ = 250.0


@dataclass(frozen=True)
class SoundFacts:
    """What a stretch of a recording is like.

    Attributes:
        level_db: root mean square, in dB of full scale.
        clipped: share of the samples that lie in clips.
        silent: share of the time.
        offset: absolute mean over root mean square; 0 is centred.
        bandwidth_hz: above this there is nothing, behind a filter's edge; half the rate where there is no such edge.
    """

    level_db: float
    clipped: float
    silent: float
    offset: float
    bandwidth_hz: float


def facts_of(samples: np.ndarray, sample_rate: int) -> SoundFacts:
    """Look at samples (N, channels), N at least one frame of 20 ms."""
    mono = samples.mean(axis=1)
    rms = float(np.sqrt(np.mean(np.square(mono, dtype=np.float64))))
    return SoundFacts(
        level_db=20 * float(np.log10(max(rms, 1e-10))),
        clipped=max(_clipped(channel) for channel in samples.T),
        silent=_silent(mono, sample_rate),
        offset=abs(float(mono.mean(dtype=np.float64))) / max(rms, 1e-10),
        bandwidth_hz=_bandwidth_hz(mono, sample_rate),
    )


def _clipped(channel: np.ndarray) -> float:
    """Share of samples in runs of the highest or the lowest value."""
    count = 0
    for extreme in (channel.max(), channel.min()):
        if abs(extreme) < CLIPPED_FROM:
            continue
        at = np.concatenate([[False], channel == extreme, [False]])
        edges = np.flatnonzero(at[1:] != at[:-1])
        runs = edges[1::2] - edges[::2]
        count += int(runs[runs >= CLIPPED_RUN].sum())
    return count / len(channel)


def _silent(mono: np.ndarray, sample_rate: int) -> float:
    level = audio.levels_db(torch.from_numpy(mono), sample_rate)
    if not len(level):
        return 0.0
    return float(np.mean(level < max(SILENT_BELOW_DB, float(np.percentile(level, 95)) + SILENT_BELOW_LOUD_DB)))


def _bandwidth_hz(mono: np.ndarray, sample_rate: int) -> float:
    """From the mean spectrum of the louder half of the frames, in bands of 250 Hz."""
    frames = mono[: len(mono) - len(mono) % _WINDOW].reshape(-1, _WINDOW) * np.hanning(_WINDOW).astype(np.float32)
    if not len(frames):
        return sample_rate / 2
    power = np.square(np.abs(np.fft.rfft(frames)))
    loud = power.sum(axis=1)
    mean = power[loud >= np.median(loud)].mean(axis=0)
    bins = max(1, round(_BAND_HZ * _WINDOW / sample_rate))
    bands = mean[: len(mean) - len(mean) % bins].reshape(-1, bins).mean(axis=1)
    level = 10 * np.log10(bands + 1e-20) - 20 * np.log10(_WINDOW / 2)
    heard = np.flatnonzero(level > NOTHING_DB)
    last = int(heard[-1]) if len(heard) else 0
    if last + 2 >= len(level) or last < 2 or level[last - 2] - level[last + 1] < CLIFF_DB:
        return sample_rate / 2
    return (last + 1) * bins * sample_rate / _WINDOW
