"""Sets of pairs by where they lie, whichever of the known layouts they have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segue.errors import SegueError
from segue.evaluate.pairs import sets, zerospeech
from segue.evaluate.pairs.sets import PairSet


def find(folders: Sequence[Path]) -> list[PairSet]:
    """All sets in some folders: our own ones and ZeroSpeech's.

    Raises:
        SegueError: if a folder is missing, of no known layout or damaged, or two sets have one name.
    """
    found: list[PairSet] = []
    for folder in folders:
        if not folder.is_dir():
            raise SegueError(f"--pairs {folder}: no such folder")
        if (folder / sets.FILE).is_file():
            found += sets.read(folder)
        elif zerospeech.is_zerospeech(folder):
            found += zerospeech.read(folder)
        else:
            raise SegueError(
                f"--pairs {folder}: neither a {sets.FILE} nor ZeroSpeech's lexical or syntactic folders in it; make "
                "pairs with `segue evaluate pairs make`"
            )
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SegueError(f"--pairs: two folders hold {twice[0]}; rename one")
    return found
