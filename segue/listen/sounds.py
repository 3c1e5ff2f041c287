"""The sounds of a test: a prompt and what follows it, at one loudness, joined alike whatever follows.

prompt, truth, made (n,) mono. Every continuation of a recording gets the loudness of the real one, and every clip of a
recording the same gain after that, so that neither level nor joint tells which is which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from segue.listen.loudness import loudness
from segue.units import seconds_to_samples

LOUDNESS = -23.0
"""LUFS of a clip with its real continuation (EBU R 128), unless a peak forbids it."""

MOST_GAIN_DB = 20.0
JOINT_SECONDS = 0.005
_PEAK = 0.98
_BEEP_HZ = 1000.0
_BEEP_SECONDS = 0.25
_BEEP_LEVEL = 0.1

Name = TypeVar("Name")


def matched(
    prompt: Tensor, truth: Tensor, follows: Mapping[Name, Tensor], rate: int
) -> tuple[dict[Name, tuple[Tensor, float]], float]:
    """Clips of one recording, at one level.

    Args:
        prompt: that all of them begin with.
        truth: how the recording goes on.
        follows: name -> what follows the prompt instead; cut or padded to the length of `truth`.
        rate: in Hz.

    Returns:
        name -> clip, and the gain in dB that what follows had relative to its prompt, at most 20 either way; and the
        factor, 1 or less, that the loudest sample asks for: every clip of the recording is to be played with the least
        of those.
    """
    wanted, clips, gains = loudness(truth, rate), {}, {}
    for name, wave in follows.items():
        same = torch.nn.functional.pad(wave, (0, max(0, truth.shape[0] - wave.shape[0])))[: truth.shape[0]]
        gain = wanted - loudness(same, rate)
        gains[name] = max(-MOST_GAIN_DB, min(MOST_GAIN_DB, gain)) if math.isfinite(gain) else 0.0
        clips[name] = joined(prompt, same * 10 ** (gains[name] / 20), rate)
    level = loudness(joined(prompt, truth, rate), rate)
    scale = 10 ** ((LOUDNESS - level) / 20) if math.isfinite(level) else 1.0
    peak = scale * max(float(clip.abs().max()) for clip in clips.values())
    return {name: (clip * scale, gains[name]) for name, clip in clips.items()}, min(1.0, _PEAK / peak) if peak else 1.0


def joined(prompt: Tensor, follows: Tensor, rate: int) -> Tensor:
    """The one after the other: 5 ms out, 5 ms in, so that no click is a hint."""
    size = min(seconds_to_samples(JOINT_SECONDS, rate), prompt.shape[0], follows.shape[0])
    if size == 0:
        return torch.cat([prompt, follows])
    rising = (torch.arange(size).to(follows) + 0.5) / size
    before, after = prompt.clone(), follows.clone()
    before[-size:] *= rising.flip(0)
    after[:size] *= rising
    return torch.cat([before, after])


def noise(samples: int, generator: torch.Generator) -> Tensor:
    """White noise, (samples,)."""
    return 0.1 * torch.randn(samples, generator=generator)


def beeps(count: int, samples: int, rate: int) -> Tensor:
    """One beep, or two with a pause between them, then silence: (samples,). They are shorter where there is no room."""
    size = min(seconds_to_samples(_BEEP_SECONDS, rate), samples // 5)
    beep = _BEEP_LEVEL * torch.sin(2 * math.pi * _BEEP_HZ * torch.arange(size) / rate) * torch.hann_window(size).sqrt()
    wave = torch.zeros(samples)
    for number in range(count):
        wave[(2 * number + 1) * size :][:size] = beep
    return wave


def ears(left_first: bool, rate: int) -> Tensor:
    """Two beeps in one ear, then two in the other, at a clip's loudness: (2, N)."""
    size = seconds_to_samples(6 * _BEEP_SECONDS, rate)
    one = beeps(2, size, rate)
    one = one * 10 ** ((LOUDNESS - loudness(one, rate)) / 20)
    silence = torch.zeros_like(one)
    sides = torch.stack([torch.cat([one, silence]), torch.cat([silence, one])])
    return sides if left_first else sides.flip(0)
