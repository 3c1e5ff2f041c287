"""Semantic tokenizers by where they are kept: our own, and those on a published encoder."""

from __future__ import annotations

from pathlib import Path

from segue.artifact import Part, artifact_folder, load_part
from segue.errors import SegueError
from segue.published import is_reference
from segue.semantic.pretrained import PretrainedTokenizer, is_pretrained
from segue.semantic.tokenizer import SemanticTokenizer


def load_semantic(name: str | Path) -> SemanticTokenizer | PretrainedTokenizer:
    """The semantic tokenizer of an artifact or of the run that made it.

    Raises:
        SegueError: if there is none, it is damaged, or its published encoder can't be had.
    """
    if is_reference(name):
        raise SegueError(f"{name}: it has no tokens before k-means; segue train semantic --encoder {name} makes them")
    return semantic_from_part(load_part(artifact_folder(Path(name)), "semantic"))


def semantic_from_part(part: Part) -> SemanticTokenizer | PretrainedTokenizer:
    """The semantic tokenizer that a part holds.

    Raises:
        SegueError: if its config and weights do not fit each other, or its published encoder can't be had.
    """
    return PretrainedTokenizer.from_part(part) if is_pretrained(part) else SemanticTokenizer.from_part(part)
