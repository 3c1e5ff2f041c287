"""The w2v-BERT encoder: convolutional subsampling to 25 Hz, then Conformer blocks, every one of them padding-proof.

Departures from the papers, each so that a row in a padded batch is encoded as it is alone, or for speed on a CPU:
LayerNorm instead of BatchNorm in the convolution module; subsampling by two convolutions whose kernel is their
stride, so that no token's features see a neighbour's frames before masking; rotary positions; attention within
a band of neighbours, so that what is learnt on short crops holds on long recordings.

Shapes: log-mel (B, 4T, bands); hidden (B, T, width); valid (B, T) bool, True on real frames.
Source: Conformer, arXiv 2005.08100, section 2; w2v-BERT, arXiv 2108.06209, section 3.1; RoFormer, arXiv 2104.09864.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segue.errors import SegueError


class BlockConfig(Protocol):
    """What a Conformer block asks of its config; see EncoderConfig for what each is."""

    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def feedforward(self) -> int: ...
    @property
    def conv_width(self) -> int: ...
    @property
    def attention_frames(self) -> int: ...
    @property
    def dropout(self) -> float: ...


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the encoder.

    Attributes:
        mel_bands: bands of the log-mel input.
        width: size of a hidden vector.
        contrastive_depth: blocks of the contrastive module, the lower ones.
        masked_depth: blocks of the masked-prediction module on top of it.
        heads: attention heads; width / heads must be even.
        feedforward: inner size of a feed-forward module as a multiple of width.
        conv_width: taps of the depthwise convolution, odd.
        attention_frames: how far attention reaches to either side; 0 is without bound.
        dropout: after each module, in training.
    """

    mel_bands: int = 80
    width: int = 144
    contrastive_depth: int = 2
    masked_depth: int = 3
    heads: int = 4
    feedforward: int = 2
    conv_width: int = 9
    attention_frames: int = 50
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % (2 * self.heads):
            raise SegueError(f"encoder.width {self.width}: must be an even multiple of heads {self.heads}")
        if self.conv_width % 2 == 0:
            raise SegueError(f"encoder.conv_width {self.conv_width}: must be odd")
        if self.contrastive_depth < 1 or self.masked_depth < 0:
            raise SegueError("encoder: contrastive_depth must be at least 1 and masked_depth at least 0")

    @property
    def depth(self) -> int:
        """Blocks altogether."""
        return self.contrastive_depth + self.masked_depth

    @property
    def asked(self) -> tuple[int, ...]:
        """Blocks whose output the objective asks for."""
        return (self.contrastive_depth - 1, self.depth - 1)


@dataclass(frozen=True)
class Surroundings:
    """What every block needs to know of the batch.

    Attributes:
        rotation: cosine and sine, each (T, head width / 2).
        attend: (1 or B, 1, T, T) bool, True where a query may look; None: everywhere.
        valid: (B, T, 1) bool; None if nothing is padded.
    """

    rotation: tuple[Tensor, Tensor]
    attend: Tensor | None
    valid: Tensor | None


class FeedForward(nn.Module):
    """Norm, widen, Swish, narrow. Source: arXiv 2005.08100, section 2.3."""

    def __init__(self, width: int, multiple: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, multiple * width)
        self.narrow = nn.Linear(multiple * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.narrow(F.silu(self.widen(self.norm(hidden))))


class SelfAttention(nn.Module):
    """Multi-head attention with rotary positions. Source: arXiv 2005.08100, section 2.1; arXiv 2104.09864."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, hidden: Tensor, around: Surroundings) -> Tensor:
        batch, frames, width = hidden.shape
        split = self.query_key_value(self.norm(hidden)).view(batch, frames, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        query, key = rotate(query, around.rotation), rotate(key, around.rotation)
        mixed = _attention(query, key, value, around.attend)
        return self.out(mixed.transpose(1, 2).reshape(batch, frames, width))


def _attention(query: Tensor, key: Tensor, value: Tensor, attend: Tensor | None) -> Tensor:
    """(B, heads, T, D) each -> the same. On a CPU in float32: the backward pass takes 2.5 times as long in bfloat16."""
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=attend)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=attend)


class Convolution(nn.Module):
    """Gated pointwise, depthwise, norm, Swish, pointwise. Source: arXiv 2005.08100, section 2.2."""

    def __init__(self, width: int, taps: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gated = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv2d(width, width, (1, taps), padding=(0, taps // 2), groups=width)
        self.middle_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)

    def forward(self, hidden: Tensor, around: Surroundings) -> Tensor:
        gated = F.glu(self.gated(self.norm(hidden)), dim=-1)
        if around.valid is not None:
            gated = gated * around.valid
        # As an image of height 1 whose memory is already channels-last: the fastest depthwise kernel on a CPU.
        mixed = self.depthwise(gated.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        return self.out(F.silu(self.middle_norm(mixed)))


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, norm. Source: arXiv 2005.08100, section 2.4."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.first = FeedForward(config.width, config.feedforward)
        self.attention = SelfAttention(config.width, config.heads)
        self.convolution = Convolution(config.width, config.conv_width)
        self.second = FeedForward(config.width, config.feedforward)
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, around: Surroundings) -> Tensor:
        hidden = hidden + 0.5 * self.dropout(self.first(hidden))
        hidden = hidden + self.dropout(self.attention(hidden, around))
        hidden = hidden + self.dropout(self.convolution(hidden, around))
        return self.norm(hidden + 0.5 * self.dropout(self.second(hidden)))


class Subsampling(nn.Module):
    """Four mel frames to one vector, by two convolutions of kernel 2 and stride 2, and a norm."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(2 * bands, width)
        self.second = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Args: log_mel (B, 4T, bands). Returns: (B, T, width)."""
        batch, frames, bands = log_mel.shape
        pairs = F.silu(self.first(log_mel.reshape(batch, frames // 2, 2 * bands)))
        return self.norm(self.second(pairs.reshape(batch, frames // 4, -1)))


class Encoder(nn.Module):
    """Subsampling and the first `depth` Conformer blocks (all of them unless said otherwise)."""

    rate = 1
    """Frames a token."""

    def __init__(self, config: EncoderConfig, depth: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.subsampling = Subsampling(config.mel_bands, config.width)
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.depth if depth is None else depth))

    def forward(self, subsampled: Tensor, valid: Tensor | None = None, depth: int | None = None) -> list[Tensor]:
        """Outputs of each block.

        Args:
            subsampled: (B, T, width) from `self.subsampling`, masked or not.
            valid: (B, T) bool, True on real frames; None if nothing is padded.
            depth: how many blocks to run; None is all.

        Returns:
            One (B, T, width) for each block run; padded frames hold nothing of meaning.
        """
        around = surroundings(subsampled, valid, self.config)
        outputs, hidden = [], subsampled
        for block in list(self.blocks)[:depth]:
            hidden = block(hidden, around)
            outputs.append(hidden)
        return outputs


def surroundings(hidden: Tensor, valid: Tensor | None, config: BlockConfig) -> Surroundings:
    """Positions and masks of a batch (B, T, width), shared by all blocks."""
    frames, device = hidden.shape[1], hidden.device
    half_width = config.width // config.heads // 2
    rates = 10_000.0 ** (-torch.arange(half_width, device=device) / half_width)
    angles = torch.arange(frames, device=device)[:, None] * rates
    if valid is not None and bool(valid.all()):
        valid = None
    attend = None
    if 0 < config.attention_frames < frames - 1:
        places = torch.arange(frames, device=device)
        attend = ((places[:, None] - places).abs() <= config.attention_frames)[None, None]
    if valid is not None:
        alone = torch.eye(frames, dtype=torch.bool, device=device)  # a padded query must see something, or it is NaN
        known = valid[:, None, None, :]
        attend = (known if attend is None else attend & known) | alone
    return Surroundings((angles.cos(), angles.sin()), attend, None if valid is None else valid[..., None])


def rotate(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn (B, H, T, E) by position: halves are the real and imaginary parts. Source: arXiv 2104.09864, section 3.4."""
    cosine, sine = rotation
    real, imaginary = heads.chunk(2, dim=-1)
    return torch.cat([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1)
