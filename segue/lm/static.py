"""Decoding one token at a time in tensors whose shapes never change: for CUDA graphs and `torch.compile`.

A step's place is a number in a tensor, the new token's keys and values are copied in at that place, and attention looks
at all of the memory up to a bound, less what is masked. The bound is a multiple of 256 tokens, so that a short past
costs little; each bound is captured as a CUDA graph, or compiled, when it is first needed.

Shapes: memory (depth, 2, B, kv_heads, max_length, head_dim), tokens (B, L), positions (B or 1, L + what will be read),
ids (B,).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from segue.lm.cache import folded, matrices, unit
from segue.lm.transformer import Transformer, activate
from segue.lm.window import near

BOUND = 256


@final
class StaticDecoder:
    """A transformer with the keys and values of what it has read, as `CachedDecoder`.

    Args:
        transformer: whose weights are copied as they are now; it may be on any device.
        batch_size: B.
        max_length: most tokens that are kept.
        dtype: of the copied weights and of the memory.
        compiled: let `torch.compile` fuse the step, which takes a compiler and, for each bound, time.
    """

    def __init__(
        self,
        transformer: Transformer,
        batch_size: int,
        max_length: int,
        *,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        config, device = transformer.config, transformer.table.device
        self._transformer, self._config, self._dtype, self._device = transformer, config, dtype, device
        self._batch_size = batch_size
        self._max_length = -(-max_length // BOUND) * BOUND
        shape = (config.depth, 2, batch_size, config.num_kv_heads, self._max_length, config.head_dim)
        self._memory = torch.zeros(shape, dtype=dtype, device=device)
        self._length = 0
        with torch.no_grad():
            self._embedding = F.linear(transformer.table, transformer.embed_up.weight).to(dtype)
            self._table = transformer.table.detach().to(dtype)
            self._down = folded(transformer.embed_down.weight, transformer.final_norm).to(dtype)
            self._blocks = [[weight.detach().to(dtype) for weight in matrices(b)] for b in transformer.blocks]
            self._bias = None
            if transformer.relative is not None:
                self._bias = transformer.relative.by_distance(self._max_length).to(dtype)
        # What a step reads and writes, at fixed addresses.
        self._ids = torch.zeros(batch_size, dtype=torch.long, device=device)
        self._times = torch.zeros(batch_size, self._max_length, device=device)
        self._speeds = transformer.angles(torch.ones(1, device=device))
        self._place = torch.zeros(1, dtype=torch.long, device=device)
        self._starts = torch.zeros(batch_size, 1, 1, 1, dtype=torch.long, device=device)
        self._advance = torch.compile(self._read_one, dynamic=False) if compiled else self._read_one
        self._graphs: dict[int, Callable[[], Tensor]] = {}

    def prefill(self, tokens: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `CachedDecoder.prefill`: forget everything, then read tokens (B or 1, L)."""
        length = tokens.shape[1]
        assert length <= self._max_length, (length, self._max_length)
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype == torch.bfloat16):
            hidden, layers = self._transformer.read(tokens, positions[:, :length], mask)
        for memory, (keys, values) in zip(self._memory, layers, strict=True):
            memory[0, :, :, :length] = keys
            memory[1, :, :, :length] = values
        self._starts.zero_()
        if mask is not None:
            self._starts[:, 0, 0, 0] = length - mask.sum(dim=1)
        self._times[:, : positions.shape[1]] = positions
        self._length = length
        self._place.fill_(length)
        weight = self._transformer.embed_down.weight
        return F.linear(hidden[:, -1].to(weight.dtype), weight).to(self._dtype).expand(self._batch_size, -1)

    def step(self, ids: Tensor) -> Tensor:
        """As `CachedDecoder.step`: read one more token a row and return the state (B, r) after it."""
        assert self._length < self._max_length, self._max_length
        self._ids.copy_(ids)
        self._length += 1
        bound = -(-self._length // BOUND) * BOUND
        if self._device.type != "cuda":
            return self._advance(bound)
        if bound not in self._graphs:
            self._graphs[bound] = self._captured(bound)
        return self._graphs[bound]()

    def logits(self, state: Tensor, first: int, count: int) -> Tensor:
        """Logits (B, count) of the ids from `first` on, in float32."""
        return F.linear(state, self._table[first : first + count]).float()

    def _read_one(self, bound: int) -> Tensor:
        """The step itself: from the fixed inputs to the state (B, r). The next place is one further."""
        config = self._config
        heads, shared = config.heads, config.num_kv_heads
        back = self._place - torch.arange(bound, device=self._device)
        allowed = (back >= 0) & (torch.arange(bound, device=self._device) >= self._starts)
        if self._bias is not None:
            bias = self._bias[:, back.clamp(min=0)].unflatten(0, (shared, -1))
            allowed = torch.where(allowed, bias, -math.inf)
        now = self._times.index_select(1, self._place)
        inside = allowed
        if config.window_frames:
            inside = allowed & near(now, self._times[:, :bound], config.window_frames)[:, None, None]
        angles = now[:, None] * self._speeds
        cos, sin = angles.cos(), angles.sin()
        x = F.embedding(self._ids, self._embedding).float()
        layers = zip(self._memory.unbind(0), self._blocks, config.windowed, strict=True)
        for (keys, values), (mix, out, gate_up, down), windowed in layers:
            mixed = F.linear(unit(x).to(self._dtype), mix).unflatten(-1, (-1, config.head_dim))
            turned, value = mixed[:, : heads + shared], mixed[:, heads + shared :]
            if self._bias is None:
                turned = _turned(turned, cos, sin)
            keys.index_copy_(2, self._place, turned[:, heads:, None])
            values.index_copy_(2, self._place, value[:, :, None])
            queries = turned[:, :heads].unflatten(1, (shared, -1))
            attended = F.scaled_dot_product_attention(
                queries, keys[:, :, :bound], values[:, :, :bound], inside if windowed else allowed
            )
            x = x + F.linear(attended.flatten(1), out)
            x = x + F.linear(activate(F.linear(unit(x).to(self._dtype), gate_up), config.activation), down)
        self._place.add_(1)
        return F.linear(unit(x).to(self._dtype), self._down)

    def _captured(self, bound: int) -> Callable[[], Tensor]:
        """A CUDA graph of the step, which is run before to warm up; what that leaves in the memory is written anew."""
        aside = torch.cuda.Stream(self._device)
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._advance(bound)
                self._place.sub_(1)
        torch.cuda.current_stream(self._device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            state = self._advance(bound)

        def replay() -> Tensor:
            graph.replay()
            return state.clone()

        return replay


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs of (B, heads, head_dim) turned by angles (B, 1, half), in real numbers, which compilers can fuse."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2).to(x.dtype)
