"""Engines that decode, behind one seam: each reads a prompt, then a token a step, and gives the same logits.

- `native`: one call of compiled C++ a step, for float32 models on the CPU (segue.lm.native).
- `torch`: plain PyTorch, anywhere (segue.lm.cache).
- `static`: fixed shapes for `torch.compile` and CUDA graphs (segue.lm.static).

`auto` takes `static` on a GPU, `native` on a CPU with a compiler, and else `torch`. Weights are `float32`, as the model
has them, or `int8`, with a scale a row; `auto` takes int8 where the native engine has an instruction for it.
An engine that can't be had gives way to `torch`, unless it was asked for by name.

Shapes: tokens (B or 1, L), ids (B,), rotation (B or 1, head_dim / 2), state (B, r or a little more).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from segue.errors import SegueError
from segue.lm.cache import CachedDecoder
from segue.lm.native.build import library
from segue.lm.native.decoder import NativeDecoder
from segue.lm.transformer import Transformer

Engine = Literal["auto", "native", "torch", "static"]
Weights = Literal["auto", "float32", "int8"]


class Decoder(Protocol):
    """A transformer with what it has read. Use it under `torch.inference_mode()`."""

    def prefill(self, tokens: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Forget everything and read tokens; returns the state after the last one.

        `tokens` is (B, L), or (1, L) where all rows read the same; `positions` (B or 1, L); `mask` (B or 1, L) is
        False for padding on the left.
        """

    def step(self, ids: Tensor, rotation: Tensor) -> Tensor:
        """Read one more token a row; returns the state after it."""

    def logits(self, state: Tensor, first: int, count: int) -> Tensor:
        """Logits (B, count) of the ids from `first` on."""


@dataclass(frozen=True)
class Choice:
    """An engine and its weights, as they will be used.

    Attributes:
        engine: `native`, `torch` or `static`.
        weights: `float32`, which is the model's own precision, or `int8`.
        reason: why it isn't a faster one, or what the faster one is made of.
    """

    engine: str
    weights: str
    reason: str


def choose_engine(device: str = "cpu", engine: str | None = None, weights: str | None = None) -> Choice:
    """The engine that decodes.

    Args:
        device: type of the model's device, `cpu` or `cuda`.
        engine: by name; None for the environment's SEGUE_ENGINE, or else `auto`.
        weights: `float32`, `int8` or `auto`; None for the environment's SEGUE_WEIGHTS, or else `auto`.

    Raises:
        SegueError: if there is none of that name, or the one asked for can't be had.
    """
    engine = _named("SEGUE_ENGINE", engine, get_args(Engine))
    weights = _named("SEGUE_WEIGHTS", weights, get_args(Weights))
    if device != "cpu":
        if engine == "native" or weights == "int8":
            raise SegueError(f"engine {engine} with weights {weights} on {device}: native and int8 are for the CPU")
        return Choice("static" if engine == "auto" else engine, "float32", f"for {device}")
    if engine in ("auto", "native"):
        found, reason = library()
        if found is not None:
            kept = weights if weights != "auto" else "int8" if found.dot == 2 else "float32"
            return Choice("native", kept, found.compiler)
        if engine == "native":
            raise SegueError(f"engine native: {reason}; install g++ or leave the engine to Segue")
        return Choice("torch", "float32" if weights == "auto" else weights, reason)
    return Choice(engine, "float32" if weights == "auto" else weights, "as asked for")


def make_decoder(
    transformer: Transformer,
    batch_size: int,
    max_length: int,
    *,
    engine: str | None = None,
    weights: str | None = None,
) -> Decoder:
    """A decoder of a transformer's weights as they are now.

    Args:
        transformer: to decode with.
        batch_size: B.
        max_length: most tokens that are kept.
        engine: as for `choose_engine`.
        weights: as for `choose_engine`.

    Raises:
        SegueError: if the engine asked for can't be had.
    """
    choice = choose_engine(transformer.table.device.type, engine, weights)
    if choice.engine == "native" and transformer.table.dtype == torch.float32:
        found, _ = library()
        assert found is not None
        return NativeDecoder(found, transformer, batch_size, max_length, eight_bits=choice.weights == "int8")
    return CachedDecoder(transformer, batch_size, max_length, eight_bits=choice.weights == "int8")


def _named(name: str, value: str | None, allowed: tuple[str, ...]) -> str:
    """What was asked for, or else what the environment's `name` says."""
    value = value or os.environ.get(name) or "auto"
    if value not in allowed:
        raise SegueError(f"{name} {value}: one of {', '.join(allowed)}")
    return value
