"""The decoder-only transformer that all three stages share.

Pre-norm RMSNorm, few key/value heads, and one factorised token table (V, r) that serves as embedding and as output:
only the logits of the codebook that comes next are computed. Two choices are values: rotary positions that may be
fractions, or T5's relative positions; SwiGLU, or a plain ReLU. The paper's recipe has the latter of each.

Shapes: tokens (B, L) int64, positions (B, L) float32, hidden (B, L, width), rotation (B, L, head_dim / 2) complex64.

Sources: Zhang & Sennrich 2019 (RMSNorm); Su et al. 2021, RoFormer (rotary positions); Raffel et al. 2020, T5 (relative
positions); Shazeer 2019 (multi-query attention) and 2020 (SwiGLU); Lan et al. 2019, ALBERT, section 3.1 (factorised
embedding). Windows: segue.lm.window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segue.config import later
from segue.errors import SegueError
from segue.lm import attention, window
from segue.lm.relative import RelativeBias
from segue.lm.sequence import PositionScheme

Layer = tuple[Tensor, Tensor]
Allowed = Tensor | list[window.Stretch] | None
Encoding = Literal["rotary", "t5"]
Activation = Literal["swiglu", "relu"]


@dataclass(frozen=True)
class TransformerConfig:
    """Size of a transformer.

    Attributes:
        width: of the residual stream.
        depth: number of blocks.
        heads: query heads; width / heads must be even.
        feedforward: hidden width of the feed-forward half of a block.
        kv_heads: key/value heads, which query heads share; None for one each. Fewer make decoding faster.
        dropout: on what each block adds.
        embedding_width: r of the factorised token table.
        positions: `time` or `index`, see segue.lm.sequence.
        rotary_base: ratio of the slowest to the fastest rotation.
        encoding: how positions are told: `rotary`, or T5's relative bias, which counts tokens and needs `index`.
        activation: of the feed-forward half.
        window_frames: how far in time, in codec frames, a block with a window sees to either side; 0 for no windows.
            It needs `time`.
        global_every: of blocks with windows, the last of so many sees everything all the same; 0 for none.

    Raises:
        SegueError: for sizes that don't go together.
    """

    width: int = 192
    depth: int = 4
    heads: int = 4
    feedforward: int = 512
    kv_heads: int | None = None
    dropout: float = 0.0
    embedding_width: int = 64
    positions: PositionScheme = "time"
    rotary_base: float = 10000.0
    encoding: Encoding = later("rotary")  # noqa: RUF009
    activation: Activation = later("swiglu")  # noqa: RUF009
    window_frames: int = later(0)
    global_every: int = later(4)

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "feedforward", "embedding_width", "rotary_base"):
            if getattr(self, name) < 1:
                raise SegueError(f"transformer: {name} {getattr(self, name)}: at least 1")
        if self.width % self.heads or self.head_dim % 2:
            raise SegueError(f"transformer: width {self.width} must split into {self.heads} heads of even width")
        if self.num_kv_heads < 1 or self.heads % self.num_kv_heads:
            raise SegueError(f"transformer: {self.heads} heads can't share {self.kv_heads} kv_heads evenly")
        if not 0 <= self.dropout < 1:
            raise SegueError(f"transformer: dropout {self.dropout} must be at least 0 and below 1")
        if self.encoding == "t5" and self.positions != "index":
            raise SegueError(f"transformer: encoding t5 counts tokens; set positions to index, not {self.positions}")
        narrow, every = self.window_frames, self.global_every
        if narrow and self.positions != "time":
            raise SegueError(f"transformer: window_frames {narrow} needs positions time, not {self.positions}")
        if min(narrow, every) < 0:
            raise SegueError(f"transformer: window_frames {narrow} and global_every {every} must be 0 or more")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.width // self.heads

    @property
    def num_kv_heads(self) -> int:
        """Key/value heads, resolved."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def rotary_scale(self) -> float:
        """Radians a position of the fastest rotation: half a turn a codec frame, so that codebooks are told apart."""
        return math.pi if self.positions == "time" else 1.0

    @property
    def windowed(self) -> tuple[bool, ...]:
        """For each block whether it attends through a window."""
        every = self.global_every
        return tuple(self.window_frames > 0 and (not every or (i + 1) % every > 0) for i in range(self.depth))


class RMSNorm(nn.Module):
    """Scale each vector to root-mean-square 1, then by a learnt gain."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return F.normalize(x, dim=-1).to(self.weight.dtype) * (self.weight * math.sqrt(x.shape[-1]))


class Block(nn.Module):
    """Attention, then feed-forward, each added to the residual stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.width, config.feedforward
        mixed = (config.heads + 2 * config.num_kv_heads) * config.head_dim
        self.attention_norm = RMSNorm(width)
        self.queries_keys_values = nn.Linear(width, mixed, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.feedforward_norm = RMSNorm(width)
        self.gate_up = nn.Linear(width, hidden * (2 if config.activation == "swiglu" else 1), bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(
        self, x: Tensor, rotation: Tensor | None, allowed: Allowed = None, rng: torch.Generator | None = None
    ) -> tuple[Tensor, Layer]:
        """One block.

        Args:
            x: (B, L, width).
            rotation: (B or 1, L, head_dim / 2) complex; None for none.
            allowed: (B or 1, 1 or heads, L, L) of query and key: bool, or a bias, -inf where a key may not be seen;
                None for all keys up to the query; or what is seen through a window, stretch by stretch.
            rng: source of dropout; None leaves it out.

        Returns:
            the new (B, L, width), and its keys and values (B, kv_heads, L, head_dim).
        """
        attended, layer = self._attend(self.attention_norm(x), rotation, allowed)
        x = x + self._drop(self.attention_out(attended), rng)
        hidden = activate(self.gate_up(self.feedforward_norm(x)), self.config.activation)
        return x + self._drop(self.down(hidden), rng), layer

    def _attend(self, x: Tensor, rotation: Tensor | None, allowed: Allowed) -> tuple[Tensor, Layer]:
        heads, shared = self.config.heads, self.config.num_kv_heads
        mixed = self.queries_keys_values(x).unflatten(-1, (-1, self.config.head_dim)).transpose(1, 2)
        turned = mixed[:, : heads + shared]
        if rotation is not None:
            turned = rotate(turned, rotation[:, None])
        queries, keys, values = turned[:, :heads], turned[:, heads:], mixed[:, heads + shared :]
        layer = (keys, values)
        if allowed is None and attention.suits(queries):
            return attention.causal(queries, keys, values).transpose(1, 2).flatten(2), layer
        if shared < heads:
            keys, values = (part.repeat_interleave(heads // shared, dim=1) for part in layer)
        if isinstance(allowed, list):
            return window.attend(queries, keys, values, allowed).transpose(1, 2).flatten(2), layer
        if allowed is not None and allowed.dtype != torch.bool:
            allowed = allowed.to(queries.dtype)
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed, is_causal=allowed is None)
        return attended.transpose(1, 2).flatten(2), layer

    def _drop(self, x: Tensor, rng: torch.Generator | None) -> Tensor:
        rate = self.config.dropout
        if rng is None or rate == 0:
            return x
        return x * torch.empty_like(x).bernoulli_(1 - rate, generator=rng) / (1 - rate)


class Transformer(nn.Module):
    """Tokens and their positions to hidden states, and hidden states to the logits of a range of ids.

    Args:
        num_ids: flat token ids.
        config: its size.
        rng: source of the first weights; None for torch's own.
    """

    def __init__(self, num_ids: int, config: TransformerConfig, rng: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Parameter(torch.empty(num_ids, config.embedding_width))
        self.embed_up = nn.Linear(config.embedding_width, config.width, bias=False)
        self.relative = RelativeBias(config.heads) if config.encoding == "t5" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_norm = RMSNorm(config.width)
        self.embed_down = nn.Linear(config.width, config.embedding_width, bias=False)
        self._initialise(rng)

    def forward(
        self, tokens: Tensor, positions: Tensor, mask: Tensor | None = None, rng: torch.Generator | None = None
    ) -> Tensor:
        """Hidden states (B, L, width), normalised, from tokens (B, L) and positions (B or 1, L)."""
        return self.read(tokens, positions, mask, rng)[0]

    def read(
        self, tokens: Tensor, positions: Tensor, mask: Tensor | None = None, rng: torch.Generator | None = None
    ) -> tuple[Tensor, list[Layer]]:
        """As `forward`, with every block's keys and values.

        `mask` (B, L) is False where a token on the left is padding, None where none is.
        """
        rotation = self.rotation(positions) if self.relative is None else None
        allowed = None if mask is None else causal_mask(mask)
        if self.relative is not None:
            if allowed is None:
                allowed = causal_mask(torch.ones_like(tokens[:1], dtype=torch.bool))
            allowed = self.relative(tokens.shape[1]).masked_fill(~allowed, -math.inf)
        windowed, frames = self.config.windowed, self.config.window_frames
        inside = window.stretches(positions, frames, mask) if any(windowed) else None
        x = self.embed_up(F.embedding(tokens, self.table)).float()  # the residual stream adds up in full precision
        layers = []
        for block, narrow in zip(self.blocks, windowed, strict=True):
            x, layer = block(x, rotation, inside if narrow else allowed, rng)
            layers.append(layer)
        return self.final_norm(x), layers

    def logits(self, hidden: Tensor, first: int, count: int) -> Tensor:
        """Logits (..., count) of the ids from `first` on, from hidden states (..., width)."""
        return F.linear(self.embed_down(hidden), self.table[first : first + count])

    def angles(self, positions: Tensor) -> Tensor:
        """Radians (..., head_dim / 2) by which `positions` (...) turn a head's pairs."""
        half = self.config.head_dim // 2
        speeds = self.config.rotary_base ** (-torch.arange(half, device=positions.device, dtype=torch.float32) / half)
        return positions.float()[..., None] * (speeds * self.config.rotary_scale)

    def rotation(self, positions: Tensor) -> Tensor:
        """Unit complex numbers (..., head_dim / 2) that turn a head's pairs by `positions` (...)."""
        angles = self.angles(positions)
        return torch.polar(torch.ones_like(angles), angles)

    def _initialise(self, rng: torch.Generator | None) -> None:
        config = self.config
        into_residual = 1 / math.sqrt(2 * config.depth)
        for name, parameter in self.named_parameters():
            if name == "table":
                nn.init.normal_(parameter, std=1 / math.sqrt(config.embedding_width), generator=rng)
            elif name == "embed_up.weight":
                nn.init.normal_(parameter, std=0.5, generator=rng)
            elif name == "embed_down.weight":
                nn.init.normal_(parameter, std=0.2 / math.sqrt(config.width), generator=rng)
            elif name == "relative.weight":
                nn.init.normal_(parameter, std=1 / math.sqrt(config.width), generator=rng)
            elif parameter.ndim == 2:
                scale = into_residual if name.endswith(("attention_out.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=scale / math.sqrt(parameter.shape[1]), generator=rng)


def activate(x: Tensor, activation: Activation) -> Tensor:
    """What goes into a block's last matrix (..., feedforward): of gate and up (..., 2 * feedforward) for SwiGLU."""
    if activation == "relu":
        return F.relu(x)
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn consecutive pairs of x (..., head_dim) by complex `rotation` (..., head_dim / 2)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)


def causal_mask(mask: Tensor) -> Tensor:
    """(B, L) True for real tokens -> (B, 1, L, L): each sees the real ones up to itself, padding only itself."""
    length = mask.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=mask.device)
    return ((causal & mask[:, None, :]) | itself)[:, None]
