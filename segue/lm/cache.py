"""Decoding one token at a time in plain PyTorch, from keys and values that are kept.

The memory is allocated once. A step works in buffers that are also allocated once, with norms folded into the
matrices that follow them, since on a CPU the calls cost as much as the arithmetic. What comes out of a step is the
state (B, r): the hidden state already brought down to the width of the token table.

Shapes: memory (depth, 2, B, kv_heads, max_length, head_dim), tokens (B, L), positions (B or 1, L + what will be read),
ids (B,).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segue.errors import SegueError
from segue.lm.quantise import quantise_rows
from segue.lm.transformer import Block, RMSNorm, Transformer, activate, rotate
from segue.lm.window import near


@final
class CachedDecoder:
    """A transformer with the keys and values of what it has read. Use it under `torch.inference_mode()`.

    Args:
        transformer: whose weights are copied as they are now.
        batch_size: B.
        max_length: most tokens that are kept.
        eight_bits: keep the matrices as int8 and multiply in bfloat16, which only some CPUs do fast.

    Raises:
        SegueError: if eight bits are asked for and the model has no use for them.
    """

    def __init__(self, transformer: Transformer, batch_size: int, max_length: int, *, eight_bits: bool = False) -> None:
        config = transformer.config
        self._transformer = transformer
        self._config = config
        like = transformer.table
        if eight_bits and (like.dtype != torch.float32 or like.device.type != "cpu"):
            raise SegueError(f"weights int8: {like.dtype} on {like.device} has none; use a float32 model on the CPU")
        shape = (config.depth, 2, batch_size, config.num_kv_heads, max_length, config.head_dim)
        self._memory = like.new_empty(shape)
        self._layers = self._memory.flatten(0, 1)
        self._batch_size, self._max_length = batch_size, max_length
        self._length = self._read = 0
        self._windowed = config.windowed
        self._mask: Tensor | None = None
        self._bias: Tensor | None = None
        if transformer.relative is not None:
            bias = transformer.relative.by_distance(max_length).flip(1)
            self._bias = bias.unflatten(0, (config.num_kv_heads, -1))[None]

        self._embedding = F.linear(like, transformer.embed_up.weight)
        self._table = like.t()
        matrix: Callable[[Tensor], _Matrix] = _Int8 if eight_bits else _Plain
        self._down = matrix(folded(transformer.embed_down.weight, transformer.final_norm))
        self._blocks = [[matrix(weight) for weight in matrices(block)] for block in transformer.blocks]

        queries, keys, dim = config.heads, config.num_kv_heads, config.head_dim
        self._mixed = like.new_empty(batch_size, (queries + 2 * keys) * dim)
        heads = self._mixed.view(batch_size, -1, dim)
        self._turned = heads[:, : queries + keys]
        pairs = self._turned.unflatten(-1, (-1, 2))
        self._pairs = torch.view_as_complex(pairs) if like.dtype == torch.float32 else None
        self._queries = heads[:, :queries].view(batch_size, keys, queries // keys, dim)
        self._newest = heads[:, queries:].view(batch_size, 2, keys, dim).transpose(0, 1)

    def prefill(self, tokens: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Forget everything, then read tokens in one pass.

        Args:
            tokens: (B, L), or (1, L) where all rows read the same: read once, kept for all.
            positions: (B or 1, L + N): theirs, and those of the N tokens that may be read after them one by one.
            mask: (B, L) bool, False for padding on the left; None where there is none.

        Returns:
            the state (B, r) after the last token.
        """
        length = tokens.shape[1]
        assert length <= self._max_length, (length, self._max_length)
        hidden, layers = self._transformer.read(tokens, positions[:, :length], mask)
        for memory, (keys, values) in zip(self._memory, layers, strict=True):
            memory[0, :, :, :length] = keys
            memory[1, :, :, :length] = values
        self._length = self._read = length
        self._times = positions
        self._turns = self._transformer.rotation(positions[:, length:])[:, :, None].unbind(1)
        self._mask = None
        if mask is not None:
            self._mask = F.pad(mask, (0, self._max_length - length), value=True)[:, None, None]
        return self._transformer.embed_down(hidden[:, -1]).expand(self._batch_size, -1)

    def step(self, ids: Tensor) -> Tensor:
        """Read one more token (B,), at the next of the positions, and return the state (B, r) after it."""
        place, length = self._length, self._length + 1
        assert length <= self._max_length, self._max_length
        x = F.embedding(ids, self._embedding)
        newest = self._memory[:, :, :, :, place].unbind(0)
        kept = self._layers[:, :, :, :length].unbind(0)
        allowed = self._allowed(length)
        whole, inside = (None, allowed), self._inside(length, allowed)
        for index, (mix, out, gate_up, down) in enumerate(self._blocks):
            mix.times(unit(x), self._mixed)
            if self._bias is None:
                self._turn(self._turns[place - self._read])
            newest[index].copy_(self._newest)
            places, may = inside if self._windowed[index] else whole
            keys, values = kept[2 * index : 2 * index + 2]
            if places is not None:
                keys, values = self._memory[index].index_select(3, places).unbind(0)
            attended = F.scaled_dot_product_attention(self._queries, keys, values, may)
            x = out.add_times(x, attended.reshape(x.shape))
            x = down.add_times(x, activate(gate_up.times(unit(x)), self._config.activation))
        self._length = length
        return self._down.times(unit(x))

    def logits(self, state: Tensor, first: int, count: int) -> Tensor:
        """Logits (B, count) of the ids from `first` on."""
        return torch.mm(state, self._table[:, first : first + count])

    def _allowed(self, length: int) -> Tensor | None:
        """What the newest token may see, (B or 1, 1 or kv_heads, 1 or queries a kv_head, length)."""
        mask = None if self._mask is None else self._mask[..., :length]
        if self._bias is None:
            return mask
        bias = self._bias[..., self._max_length - length :]
        return bias if mask is None else bias.masked_fill(~mask, -math.inf)

    def _inside(self, length: int, allowed: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The places that a row's newest token sees through a window, None for all, and which of them each row sees."""
        if not any(self._windowed):
            return None, allowed
        seen = near(self._times[:, length - 1 : length], self._times[:, :length], self._config.window_frames)
        seen = seen[:, None, None] if allowed is None else seen[:, None, None] & allowed
        places = torch.nonzero(seen.any(dim=0).flatten()).flatten()
        if len(places) == length:
            return None, seen
        return places, seen[..., places] if seen.shape[0] > 1 else None

    def _turn(self, rotation: Tensor) -> None:
        if self._pairs is not None:
            self._pairs.mul_(rotation)
        else:
            self._turned.copy_(rotate(self._turned, rotation))


class _Matrix(Protocol):
    def times(self, x: Tensor, out: Tensor | None = None) -> Tensor: ...

    def add_times(self, residual: Tensor, x: Tensor) -> Tensor: ...


@final
class _Plain:
    """A matrix (columns, rows) as it is."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.t().contiguous()

    def times(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """(B, columns) -> (B, rows)."""
        return torch.mm(x, self._weight) if out is None else torch.mm(x, self._weight, out=out)

    def add_times(self, residual: Tensor, x: Tensor) -> Tensor:
        """The product on top of `residual` (B, rows)."""
        return torch.addmm(residual, x, self._weight)


@final
class _Int8:
    """A matrix (rows, columns) in eight bits, for vectors in bfloat16."""

    def __init__(self, weight: Tensor) -> None:
        if weight.shape[1] % 16:
            raise SegueError(f"weights int8: width {weight.shape[1]} is no multiple of 16; use float32")
        self._weight, self._scales = quantise_rows(weight, torch.bfloat16)

    def times(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """(B, columns) -> (B, rows)."""
        product = torch._weight_int8pack_mm(x.bfloat16(), self._weight, self._scales)
        return product.to(x.dtype) if out is None else out.copy_(product)

    def add_times(self, residual: Tensor, x: Tensor) -> Tensor:
        """The product on top of `residual` (B, rows)."""
        return residual + torch._weight_int8pack_mm(x.bfloat16(), self._weight, self._scales)


def unit(x: Tensor) -> Tensor:
    """Each vector (..., width) at length 1."""
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_(min=1e-12)


def folded(weight: Tensor, norm: RMSNorm) -> Tensor:
    """Weight (rows, columns) behind `norm`, as it is for a vector of length one."""
    return weight * (norm.weight * math.sqrt(weight.shape[1]))


def matrices(block: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A block's four matrices (rows, columns), norms folded in: mixed, attention's out, gate and up, down."""
    assert isinstance(block, Block)
    return (
        folded(block.queries_keys_values.weight, block.attention_norm),
        block.attention_out.weight,
        folded(block.gate_up.weight, block.feedforward_norm),
        block.down.weight,
    )
