"""Whether one prompt is gone on with in different ways: distances between takes with different seeds.

takes (m,) of one prompt -> the distance of each pair, in what is said and in the voice. The same take has distance 0;
two recordings' continuations tell how far apart sounds that have nothing in common are.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
from torch import Tensor

from segue.evaluate.bench import Bench
from segue.evaluate.cases import Case, case_of, each, groups_of, means, tokens
from segue.evaluate.generations import continuations, usable
from segue.evaluate.section import Column, Table
from segue.evaluate.suite import Context

TAKES = 3
RECORDINGS = 10
COLUMNS = (
    Column("tokens", "edit distance of semantic tokens", "neither", 3),
    Column("voice", "distance of voices", "neither", 3),
)


def diversity(context: Context, bench: Bench | None) -> tuple[Table, list[str]]:
    """Pairwise distances over `TAKES` takes of the first `RECORDINGS` prompts.

    Args:
        context: of the suite.
        bench: with the scorer `voice`; None leaves voices out.

    Returns:
        the table, and a note.
    """
    numbers = usable(context)[:RECORDINGS]
    few = replace(context, recordings=tuple(context.recordings[number] for number in numbers))
    takes: dict[int, list[Case]] = {}
    for made in continuations(few, "full", range(TAKES)):
        takes.setdefault(made.number, []).append(case_of(made))
    first = [own[0] for own in takes.values()]
    places = {row.number: place for place, row in enumerate(first)}

    def within(row: Case) -> list[float]:
        return _apart(few, bench, [case.wave for case in takes[row.number]])

    def between(row: Case) -> list[float]:
        later = (*first[places[row.number] + 1 :], *first)
        other = next((case for case in later if case.group != row.group), None)
        if other is None:
            return [math.nan, math.nan]
        length = min(len(row.wave), len(other.wave))
        return _apart(few, bench, [row.wave[:length], other.wave[:length]])

    found = {}
    for title, distances in (("takes of one prompt", within), ("continuations of two recordings", between)):
        table = np.array(each(few, f"diversity: {title}", first, distances), dtype=float).reshape(-1, 2)
        found[title] = means(few, groups_of(first), {"tokens": table[:, 0], "voice": table[:, 1]})
    columns = COLUMNS if bench is not None else COLUMNS[:1]
    note = f"Diversity: {TAKES} takes of {len(first)} prompts. The same take has distance 0."
    return Table("diversity", "Takes with different seeds", columns, found), [note]


def _apart(context: Context, bench: Bench | None, waves: list[Tensor]) -> list[float]:
    """Mean distance of all pairs, in tokens and in voice."""
    said = [tokens(context, wave).tolist() for wave in waves]
    voices = [None if bench is None else bench.vector("voice", wave) for wave in waves]
    by_tokens = [edit_distance(one, two) for one, two in itertools.combinations(said, 2)]
    pairs = [(one, two) for one, two in itertools.combinations(voices, 2) if one is not None and two is not None]
    by_voice = [1 - float(one @ two) for one, two in pairs]
    return [float(np.mean(by_tokens)), float(np.mean(by_voice)) if by_voice else math.nan]


def edit_distance(one: list[int], two: list[int]) -> float:
    """Insertions, deletions and substitutions between two sequences without repeats, over the longer one's length.

    Source: Levenshtein 1966.
    """
    short, long = sorted(
        ([key for key, _ in itertools.groupby(one)], [key for key, _ in itertools.groupby(two)]), key=len
    )
    if not long:
        return 0.0
    row, target = np.arange(len(short) + 1), np.array(short, dtype=int)
    steps = np.arange(len(short) + 1)
    for place, token in enumerate(long, start=1):
        kept = np.concatenate([[place], np.minimum(row[1:] + 1, row[:-1] + (target != token))])
        row = np.minimum.accumulate(kept - steps) + steps
    return float(row[-1]) / len(long)
