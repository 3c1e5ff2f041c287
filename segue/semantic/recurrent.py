"""An encoder at 50 Hz, causal unless it hears both ways: what it makes of a moment depends on nothing that comes later,
so that a cut in the sound moves the last token at most.

Each frame reads four mel frames, the last two of them its own, then layers of LSTM carry on what was heard. Twice as
fine as the tokens: a phone may last no longer than one of those, and what lies between two of them is told by neither.
An encoder that predicts runs ahead of what it hears, so that a frame tells most of what is said in the middle of it.

Both ways, there are two such encoders side by side, of which the second hears the sound from its end. One knows what
came before a moment and the other what comes after; what they have in common is the moment.

Shapes: log-mel (B, 4T, bands); hidden (B, 2T, H), two frames a token; H is the width, or twice the width both ways.
Source: contrastive predictive coding's context network, arXiv 1807.03748, section 2.2, on log-mel instead of the wave;
two layers of LSTM as in arXiv 2007.00991, section 3.1; LSTM, Hochreiter and Schmidhuber 1997.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segue.config import later
from segue.errors import SegueError
from segue.semantic.features import STACK

_NEW = 2  # mel frames a step; as many before them are heard again


@dataclass(frozen=True)
class RecurrentConfig:
    """Sizes of the encoder.

    Attributes:
        mel_bands: bands of the log-mel input.
        width: size of a hidden vector.
        depth: layers of LSTM.
        both_ways: a second encoder of these sizes hears the sound from its end.
    """

    mel_bands: int = 80
    width: int = 256
    depth: int = 2
    both_ways: bool = later(False)

    def __post_init__(self) -> None:
        if min(self.mel_bands, self.width, self.depth) < 1:
            raise SegueError(f"recurrent: mel_bands, width and depth must be at least 1, these are {self}")

    @property
    def hidden_width(self) -> int:
        """H, of all that is known of a frame."""
        return 2 * self.width if self.both_ways else self.width

    @property
    def asked(self) -> tuple[int, ...]:
        """Blocks whose output the objective asks for."""
        return (self.depth - 1,)


class Steps(nn.Module):
    """Four mel frames to one vector, two frames on: two layers, each with a norm after it."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(2 * _NEW * bands, width)
        self.first_norm = nn.LayerNorm(width)
        self.second = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Args: log_mel (B, 4T, bands). Returns: (B, 2T, width)."""
        pairs = F.pad(log_mel, (0, 0, _NEW, 0)).unflatten(1, (-1, _NEW)).flatten(2)
        stacked = torch.cat([pairs[:, :-1], pairs[:, 1:]], dim=2)
        return self.norm(self.second(F.gelu(self.first_norm(self.first(stacked)))))


class RecurrentLayer(nn.Module):
    """A layer of LSTM from a state of zeros. Its weights are parameters of its own, so that others can stand in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(4 * width, width).uniform_(-bound, bound))
        self.recurrent_weight = nn.Parameter(torch.empty(4 * width, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(4 * width).uniform_(-bound, bound))

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, F, width) -> the same."""
        nothing = hidden.new_zeros(1, hidden.shape[0], hidden.shape[2])
        weights = [self.weight, self.recurrent_weight, self.bias, torch.zeros_like(self.bias)]
        return torch.lstm(hidden, [nothing, nothing], weights, True, 1, 0.0, self.training, False, True)[0]


class BothSteps(nn.Module):
    """Steps as the sound goes on, and steps from its end: (B, 4T, bands) to (B, 2T, 2 * width)."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.onward = Steps(bands, width)
        self.back = Steps(bands, width)

    def forward(self, log_mel: Tensor) -> Tensor:
        return torch.cat([self.onward(log_mel), self.back(log_mel.flip(1)).flip(1)], dim=2)


class BothLayers(nn.Module):
    """A layer of LSTM that goes on with the first half of each vector, and one that goes back with the second."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.onward = RecurrentLayer(width)
        self.back = RecurrentLayer(width)

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, F, 2 * width) -> the same; valid (B, F), True on real frames, None where all are."""
        onward, back = hidden.chunk(2, dim=2)
        return torch.cat([self.onward(onward), backwards(self.back(backwards(back, valid)), valid)], dim=2)


def backwards(frames: Tensor, valid: Tensor | None = None) -> Tensor:
    """The real frames of each row from last to first, (B, F, D) -> the same; what is padded stays behind them.

    Args:
        frames: (B, F, D).
        valid: (B, F) bool, True on the first, real frames of a row; None where all are.
    """
    if valid is None:
        return frames.flip(1)
    places, lengths = torch.arange(frames.shape[1], device=frames.device), valid.sum(1, keepdim=True)
    order = torch.where(places < lengths, lengths - 1 - places, places)
    return frames.gather(1, order[..., None].expand_as(frames))


class RecurrentEncoder(nn.Module):
    """Steps of 20 ms, then the first `depth` layers of LSTM (all of them unless said otherwise)."""

    rate = STACK // _NEW
    """Frames a token."""

    def __init__(self, config: RecurrentConfig, depth: int | None = None) -> None:
        super().__init__()
        self.config = config
        layers = config.depth if depth is None else depth
        steps, layer = (BothSteps, BothLayers) if config.both_ways else (Steps, RecurrentLayer)
        self.subsampling = steps(config.mel_bands, config.width)
        self.blocks = nn.ModuleList(layer(config.width) for _ in range(layers))

    def forward(self, subsampled: Tensor, valid: Tensor | None = None, depth: int | None = None) -> list[Tensor]:
        """Outputs (B, 2T, H) of each layer; arguments as of `segue.semantic.conformer.Encoder`.

        What is padded comes last and is heard by nothing before it, so `valid` matters to what goes back alone.
        """
        outputs, hidden = [], subsampled
        known = None if valid is None else valid.repeat_interleave(self.rate, dim=1)
        for block in list(self.blocks)[:depth]:
            hidden = block(hidden, known) if isinstance(block, BothLayers) else block(hidden)
            outputs.append(hidden)
        return outputs
