"""SEANet, SoundStream's own encoder and decoder: strided convolutions on the raw waveform.

wave (B, N) -> channels (B, C, n) halved in time and doubled in width stride by stride -> features (B, T, D), and
back by transposed convolutions. Causal throughout; weight-normalised; ELU.

Source: SoundStream (arXiv 2107.03312, III.A-B); strides 2, 4, 5, 8 give 50 Hz at 16 kHz as in AudioLM
(arXiv 2209.03143, III.B).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from segue.errors import SegueError


@dataclass(frozen=True)
class SeanetConfig:
    """Sizes of SEANet.

    Attributes:
        channels: width at the waveform; doubled at each stride.
        width: D of the features.
        strides: of the encoder, from the waveform on; their product is the hop.
        dilations: of the residual units before each stride.
        kernel: of the residual units.
    """

    channels: int = 32
    width: int = 256
    strides: tuple[int, ...] = (2, 4, 5, 8)
    dilations: tuple[int, ...] = (1, 3, 9)
    kernel: int = 3


class CausalConv(nn.Module):
    """A convolution that sees the past only: (B, C, n) -> (B, C', n / stride)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.convolution = weight_norm(nn.Conv1d(inputs, outputs, kernel, stride=stride, dilation=dilation))
        self.past = (kernel - 1) * dilation - (stride - 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(F.pad(x, (self.past, 0)))


class CausalTransposedConv(nn.Module):
    """The way back up: (B, C, n) -> (B, C', n * stride), with nothing of later steps in earlier samples."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = weight_norm(nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x)[..., : x.shape[-1] * self.stride]


class ResidualUnit(nn.Module):
    """Dilated convolution and a pointwise one, around which the input goes too."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.dilated = CausalConv(channels, channels // 2, kernel, dilation=dilation)
        self.pointwise = CausalConv(channels // 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pointwise(F.elu(self.dilated(F.elu(x))))


class SeanetEncoder(nn.Module):
    """wave (B, T * hop_length) -> features (B, T, D)."""

    def __init__(self, config: SeanetConfig, hop_length: int) -> None:
        super().__init__()
        _check(config, hop_length)
        channels = config.channels
        layers: list[nn.Module] = [CausalConv(1, channels, 7)]
        for stride in config.strides:
            layers += [ResidualUnit(channels, config.kernel, dilation) for dilation in config.dilations]
            layers += [nn.ELU(), CausalConv(channels, 2 * channels, 2 * stride, stride=stride)]
            channels *= 2
        self.layers = nn.Sequential(*layers, nn.ELU(), CausalConv(channels, config.width, 3))

    def forward(self, wave: Tensor) -> Tensor:
        return self.layers(wave[:, None]).transpose(1, 2)


class SeanetDecoder(nn.Module):
    """features (B, T, D) -> wave (B, T * hop_length)."""

    def __init__(self, config: SeanetConfig, hop_length: int) -> None:
        super().__init__()
        _check(config, hop_length)
        channels = config.channels * 2 ** len(config.strides)
        layers: list[nn.Module] = [CausalConv(config.width, channels, 7)]
        for stride in reversed(config.strides):
            layers += [nn.ELU(), CausalTransposedConv(channels, channels // 2, stride)]
            channels //= 2
            layers += [ResidualUnit(channels, config.kernel, dilation) for dilation in config.dilations]
        self.layers = nn.Sequential(*layers, nn.ELU(), CausalConv(channels, 1, 7))

    def forward(self, features: Tensor) -> Tensor:
        return torch.tanh(self.layers(features.transpose(1, 2)))[:, 0]


def _check(config: SeanetConfig, hop_length: int) -> None:
    if prod(config.strides) != hop_length:
        raise SegueError(f"SEANet strides {config.strides} make a hop of {prod(config.strides)}, not {hop_length}")
