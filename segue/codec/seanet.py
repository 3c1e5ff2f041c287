"""SEANet, SoundStream's own encoder and decoder: strided convolutions on the raw waveform.

wave (B, N) -> channels (B, C, n) halved in time and doubled in width stride by stride -> features (B, T, D), and
back by transposed convolutions. Causal throughout; weight-normalised; ELU or Snake. With a memory (see `streaming`)
encoder and decoder go on from the chunks before.

Weight normalisation is for training. Artifacts hold the weights it amounts to, and a codec that is loaded for use has
them folded; either form loads into either.

Source: SoundStream (arXiv 2107.03312, III.A-B); strides 2, 4, 5, 8 give 50 Hz at 16 kHz as in AudioLM
(arXiv 2209.03143, III.B). Snake: DAC (arXiv 2306.06546, 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from segue.codec.streaming import Memory, with_past
from segue.config import later
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
        activation: ELU, SoundStream's, or Snake, which suits what is periodic.
        normalised: end the encoder in a LayerNorm over channels, frame by frame, so that it streams. By itself it
            does not keep a short training's codes from collapsing (docs/log.md).
    """

    channels: int = 32
    width: int = 256
    strides: tuple[int, ...] = (2, 4, 5, 8)
    dilations: tuple[int, ...] = (1, 3, 9)
    kernel: int = 3
    activation: Literal["elu", "snake"] = later("elu")
    normalised: bool = later(False)

    def __post_init__(self) -> None:
        sizes = [(name, getattr(self, name)) for name in ("channels", "width", "kernel")]
        sizes += [("strides", one) for one in self.strides] + [("dilations", one) for one in self.dilations]
        for name, value in sizes:
            if value < 1:
                raise SegueError(f"seanet.{name} {value}: at least 1")


Convolution = TypeVar("Convolution", nn.Conv1d, nn.ConvTranspose1d)


class Snake(nn.Module):
    """x + sin(a x)^2 / a with a learnt a for each channel: (B, C, n) -> (B, C, n)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha * x).sin().square() / (self.alpha + 1e-9)


_GAIN, _DIRECTION = ".parametrizations.weight.original0", ".parametrizations.weight.original1"


def folded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with plain weights for the gains and directions (C, C', k) of weight normalisation."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith((_GAIN, _DIRECTION))}
    for name, direction in tensors.items():
        if name.endswith(_DIRECTION):
            stem = name.removesuffix(_DIRECTION)
            kept[stem + ".weight"] = direction * (tensors[stem + _GAIN] / _norm(direction))
    return kept


def fold_weight_norm(module: nn.Module) -> None:
    """Replace weight normalisation by the weights it amounts to, in every causal convolution of a module."""
    for layer in module.modules():
        if isinstance(layer, _Normalised) and is_parametrized(layer.convolution, "weight"):
            remove_parametrizations(layer.convolution, "weight")


class _Normalised(nn.Module):
    """Has one convolution, weight-normalised or folded, and loads weights of either form."""

    convolution: nn.Conv1d | nn.ConvTranspose1d

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        name = prefix + "convolution"
        plain, split = name + ".weight", (name + _GAIN, name + _DIRECTION)
        if is_parametrized(self.convolution, "weight"):
            if plain in state_dict and state_dict[plain].ndim == 3:
                weight = state_dict.pop(plain)
                state_dict.update(zip(split, (_norm(weight), weight), strict=True))
        elif all(key in state_dict and state_dict[key].ndim == 3 for key in split):
            state_dict.update(folded({key: state_dict.pop(key) for key in split}))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _norm(direction: Tensor) -> Tensor:
    return direction.flatten(1).norm(dim=1)[:, None, None]


def _even(convolution: Convolution, terms: int, gain: float = 1.0) -> Convolution:
    """First weights that leave sound as loud as it was, and no bias: what is added to it would drown it layer by layer.

    Args:
        convolution: its weights are drawn anew.
        terms: products that an output is the sum of.
        gain: how much louder the output is than the input.
    """
    nn.init.normal_(convolution.weight, std=gain * terms**-0.5)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution


class CausalConv(_Normalised):
    """A convolution that sees the past only: (B, C, n) -> (B, C', n / stride)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, gain: float = 1.0
    ) -> None:
        super().__init__()
        convolution = nn.Conv1d(inputs, outputs, kernel, stride=stride, dilation=dilation)
        self.convolution = weight_norm(_even(convolution, inputs * kernel, gain))
        self.past = (kernel - 1) * dilation - (stride - 1)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        return self.convolution(with_past(x, self.past, self, memory))


class CausalTransposedConv(_Normalised):
    """The way back up: (B, C, n) -> (B, C', n * stride), with nothing of later steps in earlier samples."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        convolution = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride=stride)
        self.convolution = weight_norm(_even(convolution, 2 * inputs))

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        made, samples = self.convolution(x), x.shape[-1] * self.stride
        if memory is None:
            return made[..., :samples]
        overlap = memory.get(self)
        memory[self] = made[..., samples:] - self.convolution.bias[:, None]  # type: ignore[index]
        if overlap is None:
            return made[..., :samples]
        return torch.cat([made[..., : self.stride] + overlap, made[..., self.stride : samples]], dim=-1)


class ResidualUnit(nn.Module):
    """Dilated convolution and a pointwise one, around which the input goes too."""

    def __init__(self, channels: int, config: SeanetConfig, dilation: int) -> None:
        super().__init__()
        self.before, self.between = _activation(config, channels), _activation(config, channels // 2)
        self.dilated = CausalConv(channels, channels // 2, config.kernel, dilation=dilation)
        units = len(config.strides) * len(config.dilations)
        self.pointwise = CausalConv(
            channels // 2, channels, 1, gain=units**-0.5
        )  # all of them add no more than one would

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        return x + self.pointwise(self.between(self.dilated(self.before(x), memory)))


class SeanetEncoder(nn.Module):
    """wave (B, T * hop_length) -> features (B, T, D)."""

    def __init__(self, config: SeanetConfig, hop_length: int) -> None:
        super().__init__()
        _check(config, hop_length)
        channels = config.channels
        layers: list[nn.Module] = [CausalConv(1, channels, 7)]
        for stride in config.strides:
            layers += [ResidualUnit(channels, config, dilation) for dilation in config.dilations]
            layers += [_activation(config, channels), CausalConv(channels, 2 * channels, 2 * stride, stride=stride)]
            channels *= 2
        self.layers = nn.Sequential(*layers, _activation(config, channels), CausalConv(channels, config.width, 3))
        self.norm = nn.LayerNorm(config.width) if config.normalised else nn.Identity()

    def forward(self, wave: Tensor, memory: Memory | None = None) -> Tensor:
        return self.norm(_run(self.layers, wave[:, None], memory).transpose(1, 2))


class SeanetDecoder(nn.Module):
    """features (B, T, D) -> wave (B, T * hop_length)."""

    delay_samples = 0

    def __init__(self, config: SeanetConfig, hop_length: int) -> None:
        super().__init__()
        _check(config, hop_length)
        self.width = config.width
        channels = config.channels * 2 ** len(config.strides)
        layers: list[nn.Module] = [CausalConv(config.width, channels, 7)]
        for stride in reversed(config.strides):
            layers += [_activation(config, channels), CausalTransposedConv(channels, channels // 2, stride)]
            channels //= 2
            layers += [ResidualUnit(channels, config, dilation) for dilation in config.dilations]
        self.layers = nn.Sequential(*layers, _activation(config, channels), CausalConv(channels, 1, 7, gain=0.1))

    def forward(self, features: Tensor, memory: Memory | None = None) -> Tensor:
        return torch.tanh(_run(self.layers, features.transpose(1, 2), memory))[:, 0]


def _activation(config: SeanetConfig, channels: int) -> nn.Module:
    return Snake(channels) if config.activation == "snake" else nn.ELU()


def _run(layers: nn.Sequential, x: Tensor, memory: Memory | None) -> Tensor:
    for layer in layers:
        x = layer(x) if isinstance(layer, nn.ELU | Snake) else layer(x, memory)
    return x


def _check(config: SeanetConfig, hop_length: int) -> None:
    if prod(config.strides) != hop_length:
        raise SegueError(f"SEANet strides {config.strides} make a hop of {prod(config.strides)}, not {hop_length}")
