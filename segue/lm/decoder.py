"""Engines that decode, behind one seam: each reads a prompt, then a token a step, and gives the same logits.

- `native`: one call of compiled C++ a step, for float32 models on the CPU (segue.lm.native).
- `torch`: plain PyTorch, anywhere (segue.lm.cache).
- `static`: fixed shapes, and on a GPU a CUDA graph (segue.lm.static).
- `compiled`: the same, fused by `torch.compile`: a minute of compiling, for those who then decode for long.

`auto` takes `static` on a GPU, `native` on a CPU with a C++ compiler, and else `torch`. Weights are the model's own
`float32`, `bfloat16` (static and compiled), or `int8` with a scale a row (native and torch); `auto` takes bfloat16 on a
GPU, and int8 where the native engine multiplies it by more than plain arithmetic (on any x86-64).

Shapes: tokens (B or 1, L), positions (B or 1, L + N), ids (B,), state (B, r or a little more).
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
from segue.lm.static import StaticDecoder
from segue.lm.transformer import Transformer

Engine = Literal["auto", "native", "torch", "static", "compiled"]
Weights = Literal["auto", "float32", "bfloat16", "int8"]
_WEIGHTS = {
    "native": ("float32", "int8"),
    "torch": ("float32", "int8"),
    "static": ("float32", "bfloat16"),
    "compiled": ("float32", "bfloat16"),
}


class Decoder(Protocol):
    """A transformer with what it has read. Use it under `torch.inference_mode()`."""

    def prefill(self, tokens: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Forget everything and read tokens; returns the state after the last one.

        `tokens` is (B, L), or (1, L) where all rows read the same; `positions` (B or 1, L + N) are theirs and those
        of up to N tokens that are read after them one by one; `mask` (B or 1, L) is False for padding on the left.
        """

    def step(self, ids: Tensor) -> Tensor:
        """Read one more token a row, at the next of the positions; returns the state after it."""

    def logits(self, state: Tensor, first: int, count: int) -> Tensor:
        """Logits (B, count) of the ids from `first` on."""


@dataclass(frozen=True)
class Choice:
    """An engine and its weights, as they will be used.

    Attributes:
        engine: `native`, `torch`, `static` or `compiled`.
        weights: `float32`, `bfloat16` or `int8`.
        reason: what it is made of, or why it isn't a faster one.
    """

    engine: str
    weights: str
    reason: str


def choose_engine(device: str = "cpu", engine: str | None = None, weights: str | None = None) -> Choice:
    """The engine that decodes.

    Args:
        device: type of the model's device, `cpu` or `cuda`.
        engine: by name; None for the environment's SEGUE_ENGINE, or else `auto`.
        weights: by name; None for the environment's SEGUE_WEIGHTS, or else `auto`.

    Raises:
        SegueError: if there is none of that name, or what is asked for can't be had.
    """
    engine = _named("engine", engine, get_args(Engine))
    weights = _named("weights", weights, get_args(Weights))
    reason, best = "as asked for", "float32"
    if device != "cpu":
        engine, reason = ("static", f"for {device}") if engine == "auto" else (engine, reason)
        best = "bfloat16" if engine in ("static", "compiled") else "float32"
    elif engine in ("auto", "native") and weights != "bfloat16":
        found, missing = library()
        if found is not None:
            engine, reason, best = "native", found.compiler, "int8" if found.dot else "float32"
        elif engine == "native":
            raise SegueError(f"engine native: {missing}; install g++ or leave the engine to Segue")
        else:
            engine, reason = "torch", missing
    elif engine == "auto":
        engine = "static"
    weights = best if weights == "auto" else weights
    if weights not in _WEIGHTS[engine] or (device != "cpu" and (engine == "native" or weights == "int8")):
        raise SegueError(f"engine {engine} has no {weights} weights on {device}; leave one of them to Segue")
    return Choice(engine, weights, reason)


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
        transformer: to decode with. One that isn't float32 is decoded by the torch engine in its own precision.
        batch_size: B.
        max_length: most tokens that are kept.
        engine: as for `choose_engine`.
        weights: as for `choose_engine`.

    Raises:
        SegueError: if the engine asked for can't be had.
    """
    if transformer.table.dtype != torch.float32:
        return CachedDecoder(transformer, batch_size, max_length)
    choice = choose_engine(transformer.table.device.type, engine, weights)
    if choice.engine == "native":
        found, _ = library()
        assert found is not None
        return NativeDecoder(found, transformer, batch_size, max_length, eight_bits=choice.weights == "int8")
    if choice.engine == "torch":
        return CachedDecoder(transformer, batch_size, max_length, eight_bits=choice.weights == "int8")
    dtype, compiled = getattr(torch, choice.weights), choice.engine == "compiled"
    return StaticDecoder(transformer, batch_size, max_length, dtype=dtype, compiled=compiled)


def _named(name: str, value: str | None, allowed: tuple[str, ...]) -> str:
    """What was asked for, or else what the environment's SEGUE_`NAME` says."""
    variable = f"SEGUE_{name.upper()}"
    chosen = value or os.environ.get(variable) or "auto"
    if chosen not in allowed:
        raise SegueError(f"{name if value else variable} {chosen}: one of {', '.join(allowed)}")
    return chosen
