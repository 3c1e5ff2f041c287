"""Short-time spectra of waves, for losses and discriminators: wave (B, N) -> complex spectra (B, F, bins)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def stft(wave: Tensor, window: Tensor, hop: int, padded: bool = True) -> Tensor:
    """Complex spectra (B, F, bins) of a wave (B, N), every `hop` samples.

    `padded` adds zeros on both sides, so that every sample is in as many frames; else frames lie within the wave.
    """
    size = window.numel()
    wave = F.pad(wave, (size - hop, size - hop)) if padded else wave
    return torch.fft.rfft(wave.unfold(-1, size, hop) * window)
