"""Of several tries the most fitting one: as loud as most of them, in the key of the prompt.

waves (n,) of one prompt, prompt (N,) -> which. A wave's statistics: mean and deviation of its level in dB, and its
energy by pitch class (12,).

Sampling now and then strays: into silence, another key, an outburst. One try alone can't be told to have strayed, but
it can from the others, which are drawn from what the model holds to be likely: the one that is nearest to them on the
whole takes the least risk. Where a prompt has a key to keep, that decides too; and a little that it is loud, since what
strays most often strays into silence.

Source: minimum Bayes risk: Kumar and Byrne (HLT-NAACL 2004); chroma: Fujishima (ICMC 1999); how much it brings, and
what else was tried: docs/log.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segue import audio

TRIES_APART = 2**32
"""Between the seeds of a row's tries: rows beside each other don't share any."""
MOST_TRIES = 100
LEVEL_SCALE_DB = 12.0
PITCH_SCALE = 0.3
"""How far two pieces of piano lie apart on the mean, so that both statistics weigh alike."""
LOUDER_PAYS = 0.3
"""Of the level's weight."""
PITCH_SECONDS = 0.256
LOWEST_HZ, HIGHEST_HZ = 100.0, 2000.0
_A4_HZ = 440.0
_FRAMES_AT_ONCE = 256


@dataclass(frozen=True)
class _Statistics:
    """Of a wave: `level` (2,) mean and deviation in dB, `pitches` (12,) shares."""

    level: np.ndarray
    pitches: np.ndarray


def most_fitting(tries: Sequence[Tensor], prompt: Tensor, sample_rate: int) -> int:
    """Which of the tries to keep; of those that are as good, the first.

    Args:
        tries: waves (n,), each what follows the prompt; one that is shorter than 20 ms is kept only if all are.
        prompt: (N,); N may be 0, then pitch classes are compared with those of the other tries.
        sample_rate: in Hz.
    """
    sounds = [index for index, wave in enumerate(tries) if len(wave) >= sample_rate * audio.LEVEL_SECONDS]
    if len(sounds) < 2:
        return sounds[0] if sounds else 0
    found = [_statistics(tries[index], sample_rate) for index in sounds]
    key = [_statistics(prompt, sample_rate)] if len(prompt) >= sample_rate * audio.LEVEL_SECONDS else None
    risks = []
    for place, one in enumerate(found):
        others = found[:place] + found[place + 1 :]
        apart = np.mean([np.linalg.norm(one.level - other.level) for other in others]) - LOUDER_PAYS * one.level[0]
        strayed = np.mean([np.abs(one.pitches - other.pitches).sum() / 2 for other in key or others])
        risks.append(apart / LEVEL_SCALE_DB + strayed / PITCH_SCALE)
    return sounds[int(np.argmin(risks))]


def _statistics(wave: Tensor, sample_rate: int) -> _Statistics:
    levels = audio.levels_db(wave, sample_rate)
    return _Statistics(np.array([levels.mean(), levels.std()]), pitch_classes(wave, sample_rate))


def pitch_classes(wave: Tensor, sample_rate: int) -> np.ndarray:
    """Shares (12,) of a wave's (n,) magnitude from 100 Hz to 2 kHz, A first, tuned to 440 Hz; all 0 for silence."""
    size = round(PITCH_SECONDS * sample_rate)
    wave = F.pad(wave.detach().cpu().float(), (0, max(0, size - len(wave))))
    frames, window = wave.unfold(0, size, size // 4), torch.hann_window(size)
    pieces = [torch.fft.rfft(piece * window).abs().double().sum(0) for piece in frames.split(_FRAMES_AT_ONCE)]
    magnitude = torch.stack(pieces).sum(0)
    hertz = torch.fft.rfftfreq(size, 1 / sample_rate)
    heard = (hertz >= LOWEST_HZ) & (hertz <= HIGHEST_HZ)
    place = (12 * torch.log2(hertz[heard] / _A4_HZ)).round().long() % 12
    shares = torch.zeros(12, dtype=torch.double).index_add(0, place, magnitude[heard])
    return np.asarray((shares / shares.sum().clamp(min=1e-9)).numpy())
