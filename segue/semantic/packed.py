"""A tokenizer that hears both ways, in a quarter of the space: what goes on is another tokenizer's encoder, of which
the fingerprint alone is kept; of what goes back, matrices are kept in eight bits, with a scale a row.

    encoder.blocks.0.onward.weight   from the other's  encoder.blocks.0.weight
    encoder.blocks.0.back.weight     (rows, columns) int8, and encoder.blocks.0.back.weight.scale (rows, 1) float16

Shapes: tensors by name, as in `segue.artifact.Part`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from segue.artifact import Part
from segue.errors import SegueError

ONWARD = "onward"
"""The role under which a packed part requires the other tokenizer; also the name of what goes on."""
BACK = "back"
_SCALE = ".scale"
_STEPS = 127


def pack(part: Part, onward: Part) -> Part:
    """A part as it is kept.

    Args:
        part: a semantic tokenizer that hears both ways.
        onward: one whose encoder is what goes on in it, to the bit.

    Raises:
        SegueError: if it isn't.
    """
    shared = half_of(onward, ONWARD)
    if lacking := sorted(shared.keys() - part.tensors.keys()):
        raise SegueError(f"{lacking[0]}: there is none to be shared with the tokenizer {onward.fingerprint}")
    kept: dict[str, Tensor] = {}
    for name, tensor in part.tensors.items():
        if name in shared:
            if not torch.equal(shared[name], tensor):
                raise SegueError(f"{name}: it isn't that of the tokenizer {onward.fingerprint}")
        elif name.startswith("encoder.") and tensor.dim() == 2:
            kept[name + _SCALE] = (tensor.float().abs().amax(1, keepdim=True) / _STEPS).clamp(min=1e-6).half()
            kept[name] = (tensor.float() / kept[name + _SCALE].float()).round().clamp(-_STEPS, _STEPS).to(torch.int8)
        else:
            kept[name] = tensor
    return replace(part, tensors=kept, requires={ONWARD: onward.fingerprint})


def unpack(part: Part, onward: Part) -> Part:
    """A part as it is used: everything in half precision, and nothing required.

    Raises:
        SegueError: if it requires another tokenizer than this one, or lacks a scale.
    """
    if part.requires[ONWARD] != onward.fingerprint:
        raise SegueError(f"it goes on as the tokenizer {part.requires[ONWARD]}, that one is {onward.fingerprint}")
    tensors = half_of(onward, ONWARD)
    for name, tensor in part.tensors.items():
        if tensor.dtype == torch.int8:
            if name + _SCALE not in part.tensors:
                raise SegueError(f"{name}: it has no scale; copy or make the artifact again")
            tensors[name] = (tensor.float() * part.tensors[name + _SCALE].float()).half()
        elif not name.endswith(_SCALE):
            tensors[name] = tensor
    return replace(part, tensors=tensors, requires={})


def half_of(part: Part, way: str) -> dict[str, Tensor]:
    """The tensors of a one-way encoder by the names of what goes `onward` or `back` in one that hears both ways."""
    found = {}
    for name, tensor in part.tensors.items():
        if name.startswith("encoder."):
            path = name.split(".")
            outer = 3 if path[1] == "blocks" else 2  # encoder.blocks.0, encoder.subsampling
            found[".".join([*path[:outer], way, *path[outer:]])] = tensor
    return found
