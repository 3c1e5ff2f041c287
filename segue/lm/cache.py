"""Decoding one token at a time from keys and values that are kept.

The memory is allocated once. A step works in buffers that are also allocated once, with norms folded into the
matrices that follow them, since on a CPU the calls cost as much as the arithmetic. What comes out of a step is the
state (B, r): the hidden state already brought down to the width of the token table.

Shapes: memory (depth, 2, B, kv_heads, max_length, head_dim), tokens (B, L), ids (B,), rotation (B or 1, head_dim / 2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from segue.lm.transformer import Block, RMSNorm, Transformer, rotate


class CachedDecoder:
    """A transformer with the keys and values of what it has read. Use it under `torch.inference_mode()`.

    Args:
        transformer: whose weights are copied as they are now.
        batch_size: B.
        max_length: most tokens that are kept.
    """

    def __init__(self, transformer: Transformer, batch_size: int, max_length: int) -> None:
        config = transformer.config
        self._transformer = transformer
        self._config = config
        like = transformer.table
        shape = (config.depth, 2, batch_size, config.num_kv_heads, max_length, config.head_dim)
        self._memory = like.new_empty(shape)
        self._layers = self._memory.flatten(0, 1)
        self._max_length = max_length
        self._length = 0
        self._mask: Tensor | None = None

        self._embedding = F.linear(like, transformer.embed_up.weight)
        self._table = like.t()
        self._down = _folded(transformer.embed_down.weight, transformer.final_norm)
        self._blocks = [_matrices(block) for block in transformer.blocks]  # type: ignore[arg-type]

        queries, keys, dim = config.heads, config.num_kv_heads, config.head_dim
        self._mixed = like.new_empty(batch_size, (queries + 2 * keys) * dim)
        heads = self._mixed.view(batch_size, -1, dim)
        self._turned = heads[:, : queries + keys]
        pairs = self._turned.unflatten(-1, (-1, 2))
        self._pairs = torch.view_as_complex(pairs) if like.dtype == torch.float32 else None
        self._queries = heads[:, :queries].view(batch_size, keys, queries // keys, dim)
        self._newest = heads[:, queries:].view(batch_size, 2, keys, dim).transpose(0, 1)
        self._gate_up = like.new_empty(batch_size, 2 * config.feedforward)
        self._gate, self._up = self._gate_up.chunk(2, dim=-1)

    def prefill(self, tokens: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Forget everything, then read tokens in one pass.

        Args:
            tokens: (B, L).
            positions: (B or 1, L).
            mask: (B, L) bool, False for padding on the left; None where there is none.

        Returns:
            the state (B, r) after the last token.
        """
        length = tokens.shape[1]
        assert length <= self._max_length, (length, self._max_length)
        hidden, layers = self._transformer.read(tokens, positions, mask)
        for memory, (keys, values) in zip(self._memory, layers, strict=True):
            memory[0, :, :, :length] = keys
            memory[1, :, :, :length] = values
        self._length = length
        self._mask = None
        if mask is not None:
            self._mask = F.pad(mask, (0, self._max_length - length), value=True)[:, None, None]
        return self._transformer.embed_down(hidden[:, -1])

    def step(self, ids: Tensor, rotation: Tensor) -> Tensor:
        """Read one more token a row and return the state (B, r) after it.

        Args:
            ids: (B,).
            rotation: (B or 1, head_dim / 2) complex, of the tokens' positions.
        """
        place, length = self._length, self._length + 1
        assert length <= self._max_length, self._max_length
        x = F.embedding(ids, self._embedding)
        newest = self._memory[:, :, :, :, place].unbind(0)
        kept = self._layers[:, :, :, :length].unbind(0)
        allowed = None if self._mask is None else self._mask[..., :length]
        rotation = rotation[:, None]
        for index, (mix, out, gate_up, down) in enumerate(self._blocks):
            torch.mm(_unit(x), mix, out=self._mixed)
            if self._pairs is not None:
                self._pairs.mul_(rotation)
            else:
                self._turned.copy_(rotate(self._turned, rotation))
            newest[index].copy_(self._newest)
            attended = F.scaled_dot_product_attention(self._queries, kept[2 * index], kept[2 * index + 1], allowed)
            x = torch.addmm(x, attended.reshape(x.shape), out)
            torch.mm(_unit(x), gate_up, out=self._gate_up)
            x = torch.addmm(x, F.silu(self._gate).mul_(self._up), down)
        self._length = length
        return torch.mm(_unit(x), self._down)

    def logits(self, state: Tensor, first: int, count: int) -> Tensor:
        """Logits (B, count) of the ids from `first` on."""
        return torch.mm(state, self._table[:, first : first + count])


def _unit(x: Tensor) -> Tensor:
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_(min=1e-12)


def _folded(weight: Tensor, norm: RMSNorm) -> Tensor:
    """Weight (out, in) behind `norm` as a matrix (in, out) for a vector of length one."""
    return (weight * (norm.weight * math.sqrt(weight.shape[1]))).t().contiguous()


def _matrices(block: Block) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        _folded(block.queries_keys_values.weight, block.attention_norm),
        block.attention_out.weight.t().contiguous(),
        _folded(block.gate_up.weight, block.feedforward_norm),
        block.down.weight.t().contiguous(),
    )
