"""Begin a training with the weights of one that is done: to fine-tune it, or to carry it over to new tokenizers.

The blocks are always kept; what a model knows of single tokens only where they come from the same tokenizer, or where
the caller says that they still mean nearly what they did, as those of a tokenizer that was trained on do.
Tables: (ids, r) of a stage, (Q, size + 1, r) and (vocab_size + 1, r) of the parallel decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from segue.artifact import Part
from segue.errors import SegueError
from segue.lm.model import StageModel
from segue.lm.parallel import ParallelModel

Rows = tuple[str, Any]
"""Name of a weight, and an index of the rows that belong to one tokenizer's tokens."""


@dataclass(frozen=True)
class Beginning:
    """What a training begins with.

    Attributes:
        part: trained, of the model's kind and sizes.
        keep_tokens: keep what it knows of single tokens also where a tokenizer is another one.
    """

    part: Part
    keep_tokens: bool = False


@torch.no_grad()
def begin_from(model: StageModel | ParallelModel, beginning: Beginning, requires: dict[str, str]) -> dict[str, Any]:
    """Put a trained part's weights into a fresh model.

    Args:
        model: fresh; keeps its own rows for tokens of tokenizers that the part does not know, unless told otherwise.
        beginning: the part.
        requires: role -> token fingerprint of the tokenizers that the model is to be trained on.

    Returns:
        `begun_from`, the part's fingerprint, and if there are any `new_tokens_of`, the roles whose tokens are new to
        the weights, or `other_tokens_of`, those whose tokens are taken for what they were: for the model card.

    Raises:
        SegueError: if the part is of another kind or of other sizes.
    """
    part = beginning.part
    other = type(model).from_part(part)
    ours, theirs = ((one.stage.streams, one.stage.frame_rate, one.config) for one in (model, other))
    if ours != theirs:
        asked = model.stage.name
        raise SegueError(f"--init: that {other.stage.name} stage has other sizes than the {asked} stage asked for")
    changed = (role for role, fingerprint in requires.items() if part.requires.get(role) != fingerprint)
    others = sorted(role for role in changed if _rows(model, role))  # a semantic stage reads no codes
    new = [] if beginning.keep_tokens else others
    weights, known = dict(model.named_parameters()), dict(other.named_parameters())
    own = [(name, index, weights[name][index].clone()) for role in new for name, index in _rows(model, role)]
    for name, weight in weights.items():
        weight.copy_(known[name])
    for name, index, rows in own:
        weights[name][index] = rows
    told = "other_tokens_of" if beginning.keep_tokens else "new_tokens_of"
    return {"begun_from": part.fingerprint} | ({told: others} if others else {})


def _rows(model: StageModel | ParallelModel, role: str) -> list[Rows]:
    """The rows that belong to the tokens of a tokenizer, `semantic` or `codec`."""
    if isinstance(model, ParallelModel):
        codes: list[Rows] = [("table", (slice(None), slice(0, model.mask))), ("bias", slice(None))]
        return codes if role == "codec" else [("semantic_table", slice(0, model.stage.prefix[0].size))]
    return [
        ("transformer.table", slice(first, first + stream.size))
        for stream in model.stage.streams
        if (stream.name == "semantic") == (role == "semantic")
        for first in model.layout.offsets(stream)
    ]
