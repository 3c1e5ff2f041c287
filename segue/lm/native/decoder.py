"""Decoding one token at a time by the native step (step.cpp): all layers in one call, in float32 or in eight bits.

The prompt is read by PyTorch in float32; its keys and values are then laid out as the native step keeps them. Every
width is padded to a multiple of 16 with zeros.

Shapes: tokens (B, L), positions (B or 1, L + N), ids (B,), state (B, r padded); panels as in product.h.
"""

from __future__ import annotations

import ctypes
import math
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from segue.errors import SegueError
from segue.lm.cache import folded, matrices
from segue.lm.native.build import Library
from segue.lm.quantise import quantise_rows
from segue.lm.transformer import Transformer

MULTIPLE = 16
"""Of which every padded width is one; a panel's block has as many rows, or a half or a quarter of that."""
WORTH_A_THREAD = 6_000_000
"""Multiply-adds from which on a step is shared between threads; a smaller one is done before they have met."""
LOG2_E = math.log2(math.e)
_NUMBER, _POINTER = ctypes.c_int64, ctypes.c_void_p


class _Matrix(ctypes.Structure):
    _fields_ = (("panel", _POINTER), ("scales", _POINTER), ("rows", _NUMBER), ("columns", _NUMBER))


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _Matrix) for name in ("mix", "out", "up", "down")),
        *((name, _POINTER) for name in ("keys", "values", "key_scales", "value_scales")),
        ("windowed", _NUMBER),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, _NUMBER) for name in ("width", "heads", "kv_heads", "head_dim", "feedforward", "max_length")),
        *((name, _NUMBER) for name in ("depth", "gated", "eight_bits", "window")),
        *((name, _POINTER) for name in ("embedding", "bias", "layers")),
        ("head", _Matrix),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        *((name, _NUMBER) for name in ("batch", "place", "threads", "turns", "pairs")),
        *((name, _POINTER) for name in ("ids", "starts", "rotation", "times", "state")),
    )


@final
class NativeDecoder:
    """A transformer with the keys and values of what it has read, as `CachedDecoder`.

    Args:
        library: the compiled step.
        transformer: whose weights are copied as they are now; float32, on the CPU.
        batch_size: B.
        max_length: most tokens that are kept.
        eight_bits: keep matrices, keys and values in eight bits, and quantise what is multiplied with them.

    Raises:
        SegueError: if the model isn't float32 on the CPU.
    """

    def __init__(
        self, library: Library, transformer: Transformer, batch_size: int, max_length: int, *, eight_bits: bool
    ) -> None:
        table = transformer.table
        if table.dtype != torch.float32 or table.device.type != "cpu":
            raise SegueError(f"engine native: {table.dtype} on {table.device}; it runs float32 models on the CPU")
        self._library, self._transformer, self._eight_bits = library, transformer, eight_bits
        self._batch_size, self._max_length = batch_size, max_length
        weights = sum(weight.numel() for weight in transformer.blocks.parameters())
        self._alone = not library.parallel or weights * batch_size < WORTH_A_THREAD
        self._starts = torch.zeros(batch_size, dtype=torch.int64)
        self._kept: list[Tensor] = []  # what the structures point to
        with torch.no_grad():
            self._head_rows = _padded(table.shape[1])
            self._table = self._matrix(_pad(table, 0, 1))
            self._model, self._memory = self._describe(transformer)
        self._step = _Step(batch=batch_size, starts=self._starts.data_ptr(), pairs=transformer.config.head_dim // 2)

    def prefill(self, tokens: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `CachedDecoder.prefill`: forget everything, then read tokens (B or 1, L)."""
        length = tokens.shape[1]
        assert length <= self._max_length, (length, self._max_length)
        hidden, layers = self._transformer.read(tokens, positions[:, :length], mask)
        for (keys, values, key_scales, value_scales), layer in zip(self._memory, layers, strict=True):
            new_keys, new_values = (_pad(part, 3) for part in layer)
            if self._eight_bits:
                new_keys, key_scales[:, :, :length] = _unsigned(new_keys)
                new_values, value_scales[:, :, :length] = _unsigned(new_values)
            side = 4 if self._eight_bits else 1
            blocks = self._lay(_pad(new_keys, 2), side)
            keys[:, :, : blocks.shape[2]] = blocks
            columns = self._lay(_pad(new_values, 2).transpose(2, 3), side)
            values[:, :, :, : columns.shape[3]] = columns
        self._starts.zero_()
        if mask is not None:
            self._starts[:] = mask.shape[1] - mask.sum(dim=1)
        self._turns = torch.view_as_real(self._transformer.rotation(positions[:, length:].T)).contiguous()
        self._times = F.pad(positions.float(), (0, _padded(self._max_length) - positions.shape[1]))
        step, self._read = self._step, length
        step.place, step.turns, step.times = length, positions.shape[0], self._times.data_ptr()
        return _pad(self._transformer.embed_down(hidden[:, -1]), 1).expand(self._batch_size, -1)

    def step(self, ids: Tensor) -> Tensor:
        """As `CachedDecoder.step`: read one more token a row and return the state (B, r padded) after it."""
        assert self._step.place < self._max_length, self._max_length
        assert ids.shape == (self._batch_size,), ids.shape
        ids, state = ids.contiguous(), torch.empty(self._batch_size, self._head_rows)
        step = self._step
        step.ids, step.state = ids.data_ptr(), state.data_ptr()
        if self._transformer.relative is None:
            step.rotation = self._turns[step.place - self._read].data_ptr()
        step.threads = 1 if self._alone else torch.get_num_threads()
        self._library.handle.segue_step(ctypes.byref(self._model), ctypes.byref(step))
        step.place += 1
        return state

    def logits(self, state: Tensor, first: int, count: int) -> Tensor:
        """Logits (B, count) of the ids from `first` on."""
        lanes = self._library.lanes
        begin, end = first // lanes, -(-(first + count) // lanes)
        state, out = state.contiguous(), torch.empty(self._batch_size, (end - begin) * lanes)
        self._library.handle.segue_rows(
            ctypes.byref(self._table),
            _NUMBER(self._eight_bits),
            _NUMBER(begin),
            _NUMBER(end),
            _POINTER(state.data_ptr()),
            _NUMBER(self._batch_size),
            _POINTER(out.data_ptr()),
        )
        return out[:, first - begin * lanes :][:, :count]

    def _describe(self, transformer: Transformer) -> tuple[_Model, list[tuple[Tensor, Tensor, Tensor, Tensor]]]:
        """The model as the native step sees it, and each layer's keys, values and their scales."""
        config = transformer.config
        heads, shared, dim = config.heads, config.num_kv_heads, config.head_dim
        length = _padded(self._max_length)
        gated = config.activation == "swiglu"
        layers = (_Layer * config.depth)()
        memory = []
        for layer, block, windowed in zip(layers, transformer.blocks, config.windowed, strict=True):
            layer.windowed = windowed
            mixed, out, up, down = matrices(block)
            by_head = mixed.unflatten(0, (-1, dim)).clone()
            by_head[:heads] *= LOG2_E / math.sqrt(dim)
            layer.mix = self._matrix(_pad(by_head, 1, 2).flatten(0, 1))
            layer.out = self._matrix(_pad(_pad(out.unflatten(1, (heads, dim)), 2).flatten(1), 0))
            up = _pad(up.unflatten(0, (2 if gated else 1, -1)), 1, 2)
            layer.up = self._matrix(up.unflatten(1, (-1, self._library.lanes)).transpose(0, 1).flatten(0, 2))
            layer.down = self._matrix(_pad(down, 0, 1))
            kept = self._remember(shared, _padded(dim), length)
            layer.keys, layer.values, layer.key_scales, layer.value_scales = (
                part.data_ptr() if part.numel() else None for part in kept
            )
            memory.append(kept)
        embedding = self._keep(_pad(F.linear(transformer.table, transformer.embed_up.weight), 1))
        bias = None
        if transformer.relative is not None:
            backwards = transformer.relative.by_distance(length).flip(1) * LOG2_E
            bias = self._keep(F.pad(backwards, (0, self._library.lanes))).data_ptr()
        head = self._matrix(_pad(folded(transformer.embed_down.weight, transformer.final_norm), 0, 1))
        model = _Model(
            width=_padded(config.width),
            heads=heads,
            kv_heads=shared,
            head_dim=_padded(dim),
            feedforward=_padded(config.feedforward),
            max_length=length,
            depth=config.depth,
            gated=gated,
            eight_bits=self._eight_bits,
            window=config.window_frames,
            embedding=embedding.data_ptr(),
            bias=bias,
            layers=ctypes.cast(layers, _POINTER),
            head=head,
        )
        return model, memory

    def _matrix(self, weight: Tensor) -> _Matrix:
        """A padded matrix (rows, columns) as a panel."""
        rows, columns = weight.shape
        if not self._eight_bits:
            return _Matrix(self._keep(self._lay(weight, 1)).data_ptr(), None, rows, columns)
        numbers, scales = _unsigned(weight)
        return _Matrix(self._keep(self._lay(numbers, 4)).data_ptr(), self._keep(scales).data_ptr(), rows, columns)

    def _remember(self, kv_heads: int, dim: int, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Room for a layer's keys and values as panels, and their scales (B, kv_heads, length) or nothing."""
        side, kind = (4, torch.uint8) if self._eight_bits else (1, torch.float32)
        lanes = self._library.lanes
        keys = torch.zeros(self._batch_size, kv_heads, length // lanes, dim // side, lanes, side, dtype=kind)
        values = torch.zeros(self._batch_size, kv_heads, dim // lanes, length // side, lanes, side, dtype=kind)
        scales = torch.zeros(2, self._batch_size, kv_heads, length if self._eight_bits else 0)
        return keys, values, scales[0], scales[1]

    def _lay(self, matrix: Tensor, side: int) -> Tensor:
        """(..., rows, columns) as panels (..., rows / lanes, columns / side, lanes, side)."""
        return matrix.unflatten(-1, (-1, side)).unflatten(-3, (-1, self._library.lanes)).transpose(-3, -2)

    def _keep(self, tensor: Tensor) -> Tensor:
        self._kept.append(tensor.contiguous())
        return self._kept[-1]


def _padded(width: int) -> int:
    return -(-width // MULTIPLE) * MULTIPLE


def _pad(x: Tensor, *axes: int) -> Tensor:
    """Zeros at the end of some axes, up to a multiple of 16."""
    for axis in axes:
        x = F.pad(x, (*(0, 0) * (x.ndim - 1 - axis), 0, _padded(x.shape[axis]) - x.shape[axis]))
    return x


def _unsigned(x: Tensor) -> tuple[Tensor, Tensor]:
    """(..., columns) in eight bits with 128 added, and a scale (...) each."""
    numbers, scales = quantise_rows(x)
    return (numbers.short() + 128).to(torch.uint8), scales
