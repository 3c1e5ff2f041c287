"""Whether a continuation has gone wrong as sound: silence, noise, loops, and its level against the prompt.

wave (n,) -> level in dB of each frame of 20 ms; flatness of each loud frame. tokens (T,) at the semantic frame rate.
The definitions are ours, made so that recorded speech and piano are free of them; every threshold is a constant here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segue.audio import FLOOR_DB, LEVEL_SECONDS, levels_db
from segue.generate.repetition import LOOPS_FROM, Repetition

SILENT_BELOW_DB = 35.0
"""A frame is silent if it is so much below the prompt's loud frames: their 95th percentile."""
SILENCE_SECONDS = 2.0
"""Of silent frames in a row: longer than speakers pause and pianists wait."""
FLATNESS_SECONDS = 0.032
NOISE_FROM = 0.3
"""Spectral flatness (0 for a tone, 0.56 for white noise) of a frame that hisses."""
NOISE_SHARE = 0.5
"""Of the loud frames that hiss, above which a continuation is noise: in speech it is those of fricatives."""


@dataclass(frozen=True)
class Faults:
    """What is wrong with a continuation.

    Attributes:
        silence: it is silent for `SILENCE_SECONDS` in a row.
        noise: more than `NOISE_SHARE` of its loud frames are flat.
        loop: more than segue.generate.repetition.LOOPS_FROM of the 4-grams of its tokens had come before.
        level_db: its level less the prompt's, both over the frames that aren't silent; NaN if all are.
        repeated: share of 4-grams of prompt and continuation that had come before.
    """

    silence: bool
    noise: bool
    loop: bool
    level_db: float
    repeated: float

    @property
    def any(self) -> bool:
        """Whether it has collapsed in some way."""
        return self.silence or self.noise or self.loop


def faults(prompt: Tensor, wave: Tensor, tokens: Tensor, sample_rate: int) -> Faults:
    """What is wrong with a continuation.

    Args:
        prompt: (n,) that it follows.
        wave: (m,) the continuation.
        tokens: (T,) semantic tokens of both.
        sample_rate: of both, in Hz.
    """
    before, after = levels_db(prompt, sample_rate), levels_db(wave, sample_rate)
    quiet = (float(np.quantile(before, 0.95)) if len(before) else FLOOR_DB) - SILENT_BELOW_DB
    loud, loud_before = after > quiet, before > quiet
    repetition = Repetition()
    repetition.add(tokens)
    level = math.nan
    if loud.any() and loud_before.any():
        level = _power_db(after[loud]) - _power_db(before[loud_before])
    return Faults(
        silence=longest_run(~loud) * LEVEL_SECONDS >= SILENCE_SECONDS or not loud.any(),
        noise=flat_share(wave, sample_rate, quiet) > NOISE_SHARE,
        loop=repetition.share > LOOPS_FROM,
        level_db=level,
        repeated=repetition.share,
    )


def flat_share(wave: Tensor, sample_rate: int, quiet_db: float) -> float:
    """Share of the loud frames whose power spectrum is flat from 100 Hz to 7 kHz: geometric over arithmetic mean.

    Source: Johnston 1988, Transform Coding of Audio Signals Using Perceptual Noise Criteria, IEEE JSAC 6(2).
    """
    size = round(FLATNESS_SECONDS * sample_rate)
    if len(wave) < size:
        return 0.0
    frames = wave.double().unfold(0, size, size)
    loud = 10 * frames.square().mean(1).clamp(min=1e-12).log10() > quiet_db
    if not loud.any():
        return 0.0
    power = torch.fft.rfft(frames[loud] * torch.hann_window(size, dtype=torch.double)).abs().square()
    hertz = torch.fft.rfftfreq(size, 1 / sample_rate)
    heard = power[:, (hertz >= 100) & (hertz <= 7000)].clamp(min=1e-20)
    flatness = heard.log().mean(1).exp() / heard.mean(1)
    return float((flatness > NOISE_FROM).double().mean())


def longest_run(flags: np.ndarray) -> int:
    """Most True values in a row of (n,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _power_db(levels: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(10 ** (levels / 10))))
