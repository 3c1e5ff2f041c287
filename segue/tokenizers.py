"""Semantic tokenizers by where they are kept: our own, and those on a published encoder."""

from __future__ import annotations

from pathlib import Path

from segue.artifact import Part, artifact_folder, load_part
from segue.errors import SegueError
from segue.published import is_reference
from segue.semantic.packed import ONWARD, unpack
from segue.semantic.pretrained import PretrainedTokenizer, is_pretrained
from segue.semantic.tokenizer import SemanticTokenizer

PHONETIC = "phonetic"
"""Name of the tokenizer that comes with Segue beside those of its bundles: of speech, heard both ways."""
BUNDLED = Path(__file__).parent / "bundled"
"""The weights that come with Segue."""


def semantic_folder(name: str | Path) -> Path:
    """Where a tokenizer lies: `phonetic`, which comes with Segue, or an artifact, or the run that made it."""
    return BUNDLED / PHONETIC if str(name) == PHONETIC else artifact_folder(Path(name))


def load_semantic(name: str | Path) -> SemanticTokenizer | PretrainedTokenizer:
    """The semantic tokenizer of that name, of an artifact or of the run that made it.

    Raises:
        SegueError: if there is none, it is damaged, or its published encoder can't be had.
    """
    if is_reference(name):
        raise SegueError(f"{name}: it has no tokens before k-means; segue train semantic --encoder {name} makes them")
    return semantic_from_part(load_unpacked(semantic_folder(name)))


def load_unpacked(folder: Path, kind: str = "semantic") -> Part:
    """The part in a folder, as `segue.artifact.load_part` reads it, unpacked if it is a packed tokenizer.

    Raises:
        SegueError: if there is none, it is damaged, or what it goes on with isn't the bundled tokenizer of speech.
    """
    part = load_part(folder, kind)
    if ONWARD not in part.requires:
        return part
    try:
        return unpack(part, load_part(BUNDLED / "speech" / "semantic", "semantic"))
    except SegueError as error:
        raise SegueError(f"{folder}: {error}") from error


def semantic_from_part(part: Part) -> SemanticTokenizer | PretrainedTokenizer:
    """The semantic tokenizer that a part holds.

    Raises:
        SegueError: if its config and weights do not fit each other, or its published encoder can't be had.
    """
    return PretrainedTokenizer.from_part(part) if is_pretrained(part) else SemanticTokenizer.from_part(part)
