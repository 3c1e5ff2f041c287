"""The scorers by name; each is a file of this folder with a function `scorer(kind) -> Scorer`."""

from __future__ import annotations

import importlib

from segue.errors import SegueError
from segue.evaluate.scorers.seam import Kind, Scorer

SCORERS = ("pesq", "stoi", "visqol", "si_sdr", "distillmos", "dnsmos", "voice", "words", "notes", "tempo")


def scorer(name: str, kind: Kind) -> Scorer:
    """A scorer for a kind of sound; no package of it is imported yet.

    Raises:
        SegueError: if there is none of that name.
    """
    if name not in SCORERS:
        raise SegueError(f"scorer {name}: one of {', '.join(SCORERS)}")
    found: Scorer = importlib.import_module(f"segue.evaluate.scorers.{name}").scorer(kind)
    return found
