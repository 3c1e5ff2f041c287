"""How loud sound is to people: wave (N,) mono.

Source: ITU-R BS.1770-4, annex 1: K-weighting, blocks of 400 ms that overlap by three quarters, two gates. Its filters
are given for 48 kHz; here their responses weigh the spectrum, so that any rate will do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SILENT = -70.0
"""LUFS: what is quieter is gated out, and a wave of nothing else has no loudness."""

_BLOCK_SECONDS = 0.4
_OFFSET = -0.691
_RELATIVE_GATE = -10.0
_REFERENCE_RATE = 48_000
_SHELF = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
_HIGH_PASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))


def loudness(wave: Tensor, sample_rate: int) -> float:
    """Integrated loudness in LUFS; -inf where all of it is silent. A wave below 400 ms is one block."""
    size = min(round(_BLOCK_SECONDS * sample_rate), wave.shape[0])
    if size == 0:
        return -math.inf
    weighted = _weighted(wave.double(), sample_rate)
    power = weighted.unfold(0, size, max(1, size // 4)).square().mean(1)
    power = power[_lufs(power) > SILENT]
    if not len(power):
        return -math.inf
    loud = power[_lufs(power) > float(_lufs(power.mean())) + _RELATIVE_GATE]
    return float(_lufs(loud.mean()))


def _lufs(power: Tensor) -> Tensor:
    return _OFFSET + 10 * power.clamp(min=1e-20).log10()


def _weighted(wave: Tensor, sample_rate: int) -> Tensor:
    frequencies = torch.fft.rfftfreq(2 * wave.shape[0], 1 / sample_rate, dtype=torch.float64)
    gain = _response(_SHELF, frequencies) * _response(_HIGH_PASS, frequencies)
    return torch.fft.irfft(torch.fft.rfft(wave, 2 * wave.shape[0]) * gain, 2 * wave.shape[0])[: wave.shape[0]]


def _response(filter_: tuple[tuple[float, ...], tuple[float, ...]], frequencies: Tensor) -> Tensor:
    """Magnitude of a biquad (numerator, denominator) at these frequencies in Hz, up to the 24 kHz that it is for."""
    angle = 2 * math.pi * frequencies.clamp(max=_REFERENCE_RATE / 2) / _REFERENCE_RATE
    powers = torch.polar(torch.ones_like(angle), -angle)[:, None] ** torch.arange(3)
    above, below = (powers @ torch.tensor(part, dtype=powers.dtype) for part in filter_)
    return (above / below).abs()
