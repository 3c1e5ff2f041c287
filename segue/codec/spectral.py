"""The frame-domain encoder and decoder: SoundStream's job on short-time spectra, cheap enough to train on a CPU.

wave (B, N) -> STFT frames at 100 Hz -> ConvNeXt blocks -> features (B, T, D) at 50 Hz, and back.

Everything is causal: spectrum f sees the 640 samples up to its end, the convolutions see the past. The inverse
STFT overlaps four frames, so a sample is final three hops (30 ms) after its frame: with the frame of 20 ms the
algorithmic latency is 50 ms. With a memory (see `streaming`) encoder and decoder go on from the chunks before.

Source: the ConvNeXt trunk and inverse-STFT head follow Vocos (arXiv 2306.00814); the codec around them is
SoundStream (arXiv 2107.03312).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segue.codec.streaming import Memory, with_past
from segue.errors import SegueError

FLUSH_FRAMES = 2
"""Frames of zeros after the end, so that the last real samples get all their overlapping spectra."""


@dataclass(frozen=True)
class SpectralConfig:
    """Sizes of the frame-domain pair.

    Attributes:
        window: STFT window in samples.
        hop: STFT hop in samples; the codec's hop is a multiple of it.
        width: channels of the trunk.
        expansion: hidden width of a block over its width.
        encoder_depth: blocks of the encoder at the codec's frame rate.
        decoder_depth: blocks of the decoder at the codec's frame rate.
        kernel: frames that a block's depthwise convolution sees.
    """

    window: int = 640
    hop: int = 160
    width: int = 256
    expansion: int = 3
    encoder_depth: int = 4
    decoder_depth: int = 6
    kernel: int = 7

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise SegueError(f"spectral.{name} {value}: at least 1")


class ConvNeXtBlock(nn.Module):
    """Causal depthwise convolution, normalisation over channels, two-layer perceptron, residual.

    Shape: (B, T, D) -> (B, T, D).
    """

    def __init__(self, width: int, expansion: int, kernel: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        past = with_past(x.transpose(1, 2), self.depthwise.kernel_size[0] - 1, self, memory)
        mixed = self.norm(self.depthwise(past).transpose(1, 2))
        return x + self.scale * self.contract(F.gelu(self.expand(mixed)))


def _trunk(config: SpectralConfig, depth: int) -> nn.Sequential:
    return nn.Sequential(
        *(ConvNeXtBlock(config.width, config.expansion, config.kernel, 1.0 / max(depth, 1)) for _ in range(depth))
    )


def _run(trunk: nn.Sequential, x: Tensor, memory: Memory | None) -> Tensor:
    for block in trunk:
        x = block(x, memory)
    return x


class SpectralEncoder(nn.Module):
    """wave (B, T * hop_length) -> features (B, T, D)."""

    window: Tensor

    def __init__(self, config: SpectralConfig, hop_length: int) -> None:
        super().__init__()
        _check(config, hop_length)
        self.config = config
        self.stack = hop_length // config.hop
        bins = config.window // 2 + 1
        self.register_buffer("window", torch.hann_window(config.window), persistent=False)
        self.embed = nn.Linear(3 * bins, config.width)
        self.fine_block = ConvNeXtBlock(config.width, config.expansion, config.kernel, 1.0)
        self.down = nn.Linear(self.stack * config.width, config.width)
        self.trunk = _trunk(config, config.encoder_depth)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, wave: Tensor, memory: Memory | None = None) -> Tensor:
        config = self.config
        frames = with_past(wave, config.window - config.hop, self, memory).unfold(-1, config.window, config.hop)
        spectrum = torch.fft.rfft(frames * self.window)
        real, imaginary = spectrum.real, spectrum.imag
        power = real.square() + imaginary.square() + 1e-7
        compressed = power.rsqrt().sqrt()
        seen = torch.cat([real * compressed, imaginary * compressed, 0.1 * power.log()], dim=-1)
        x = self.fine_block(self.embed(seen), memory)
        x = self.down(x.unflatten(1, (-1, self.stack)).flatten(2))
        return self.norm(_run(self.trunk, x, memory))


class SpectralDecoder(nn.Module):
    """features (B, T, D) -> wave (B, T * hop_length).

    With a memory the wave is `delay_samples` late: its first samples lie before the sound's beginning.
    """

    window: Tensor

    def __init__(self, config: SpectralConfig, hop_length: int) -> None:
        super().__init__()
        _check(config, hop_length)
        self.config = config
        self.stack = hop_length // config.hop
        self.bins = config.window // 2 + 1
        self.width, self.delay_samples = config.width, config.window - config.hop
        self.register_buffer("window", torch.hann_window(config.window), persistent=False)
        self.embed = nn.Linear(config.width, config.width)
        self.trunk = _trunk(config, config.decoder_depth)
        self.up = nn.Linear(config.width, self.stack * config.width)
        self.fine_block = ConvNeXtBlock(config.width, config.expansion, config.kernel, 1.0)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, 3 * self.bins)

    def forward(self, features: Tensor, memory: Memory | None = None) -> Tensor:
        samples = features.shape[1] * self.stack * self.config.hop
        if memory is None:
            features = F.pad(features, (0, 0, 0, FLUSH_FRAMES))
        x = _run(self.trunk, self.embed(features), memory)
        x = self.fine_block(self.up(x).unflatten(-1, (self.stack, -1)).flatten(1, 2), memory)
        log_magnitude, a, b = self.head(self.norm(x)).split(self.bins, dim=-1)
        magnitude = log_magnitude.clamp(max=7.0).exp() * torch.rsqrt(a.square() + b.square() + 1e-6)
        spectrum = torch.complex(magnitude * a, magnitude * b)
        frames = torch.fft.irfft(spectrum, n=self.config.window) * self.window
        if memory is not None:
            frames = with_past(frames.mT, self.config.window // self.config.hop - 1, self, memory).mT
        return self._overlap_add(frames)[:, :samples]

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """Spectra f, each ending with hop f, summed: (B, F, window) -> (B, (F - overlap + 1) * hop)."""
        overlap = self.config.window // self.config.hop
        parts = frames.unflatten(-1, (overlap, self.config.hop))
        hops = frames.shape[1] - overlap + 1
        blocks = [parts[:, overlap - 1 - s : overlap - 1 - s + hops, s] for s in range(overlap)]
        gain = self.window.square().sum() / self.config.hop
        return torch.stack(blocks).sum(dim=0).flatten(1) / gain


def _check(config: SpectralConfig, hop_length: int) -> None:
    """Refuse spectra whose windows don't add up to a constant, or whose last ones lie beyond the flush."""
    stack, overlap = hop_length // config.hop, config.window // config.hop
    whole = hop_length % config.hop == 0 and config.window % config.hop == 0
    if not whole or not 3 <= overlap <= FLUSH_FRAMES * stack + 1:
        raise SegueError(
            f"spectral pair: window {config.window}, hop {config.hop} under a codec hop of {hop_length}; the hop must "
            f"divide both, and the window be 3 to {FLUSH_FRAMES * stack + 1} hops long"
        )
