"""Discriminators that the codec learns to fool: on complex spectra, on the waveform, and on the waveform folded up.

wave (B, N) -> a list, one entry a discriminator, of its inner activations with the logits last.

Source: SoundStream (arXiv 2107.03312, III.D): an STFT-based and a multi-resolution waveform discriminator; several
STFT resolutions as in EnCodec (arXiv 2210.13438, 3.4); periods as in HiFi-GAN (arXiv 2010.05646, 2.3) and DAC
(arXiv 2306.06546, 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from segue.codec.stft import stft
from segue.config import later
from segue.errors import SegueError


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of the discriminators.

    Attributes:
        stft_windows: window of each spectral discriminator, in samples; the hop is a quarter.
        stft_channels: its width.
        wave_scales: number of waveform discriminators, each at half the rate of the one before.
        wave_channels: width of its first layer.
        periods: of each discriminator that sees the wave folded, in samples; coprime ones see different things.
        period_channels: width of its first layer.
    """

    stft_windows: tuple[int, ...] = (256, 1024)
    stft_channels: int = 16
    wave_scales: int = 1
    wave_channels: int = 16
    periods: tuple[int, ...] = later(())
    period_channels: int = later(16)

    def __post_init__(self) -> None:
        if any(period < 2 for period in self.periods):
            raise SegueError(f"discriminators.periods {list(self.periods)}: from 2 samples on")


class StftDiscriminator(nn.Module):
    """2-D convolutions over a complex spectrogram, strided in frequency."""

    window: Tensor

    def __init__(self, window: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(window, periodic=True), persistent=False)
        widths = [2, channels, channels, 2 * channels, 2 * channels]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (3, 5), stride=(1, 2), padding=(1, 2))) for a, b in pairwise(widths)
        )
        self.out = weight_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, wave: Tensor) -> list[Tensor]:
        spectrum = stft(wave, self.window, self.window.numel() // 4)
        x = torch.stack([spectrum.real, spectrum.imag], dim=1)
        activations = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            activations.append(x)
        return [*activations, self.out(x)]


class WaveDiscriminator(nn.Module):
    """Strided grouped convolutions over the waveform."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([weight_norm(nn.Conv1d(1, channels, 15, padding=7))])
        width = channels
        for _ in range(3):
            convolution = nn.Conv1d(width, 2 * width, 41, stride=4, padding=20, groups=max(1, width // 4))
            self.layers.append(weight_norm(convolution))
            width *= 2
        self.out = weight_norm(nn.Conv1d(width, 1, 3, padding=1))

    def forward(self, wave: Tensor) -> list[Tensor]:
        x, activations = wave[:, None], []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            activations.append(x)
        return [*activations, self.out(x)]


class PeriodDiscriminator(nn.Module):
    """Convolutions along time over the wave folded to rows of one period: samples a period apart are neighbours."""

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, channels, 2 * channels, 4 * channels, 8 * channels]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), stride=(3, 1), padding=(2, 0))) for a, b in pairwise(widths)
        )
        self.out = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Tensor) -> list[Tensor]:
        x = F.pad(wave, (0, -wave.shape[-1] % self.period)).unflatten(-1, (-1, self.period))[:, None]
        activations = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            activations.append(x)
        return [*activations, self.out(x)]


class Discriminators(nn.Module):
    """All of them, side by side."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.spectral = nn.ModuleList(StftDiscriminator(w, config.stft_channels) for w in config.stft_windows)
        self.waves = nn.ModuleList(WaveDiscriminator(config.wave_channels) for _ in range(config.wave_scales))
        self.periods = nn.ModuleList(PeriodDiscriminator(p, config.period_channels) for p in config.periods)

    def forward(self, wave: Tensor) -> list[list[Tensor]]:
        results = [module(wave) for module in self.spectral]
        for index, module in enumerate(self.waves):
            scaled = wave if index == 0 else F.avg_pool1d(wave[:, None], 2**index)[:, 0]
            results.append(module(scaled))
        return results + [module(wave) for module in self.periods]
