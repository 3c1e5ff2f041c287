"""Whether a continuation is its prompt's and nobody else's, from embeddings of length 1.

continuations and prompts (n, D), a row a case -> figures by case, which the bootstrap draws by group.

The paper trained a classifier of 291 speakers and asked it of continuations: 92.6 % (AudioLM, arXiv 2209.03143).
Here speakers are few and new, so a speaker is the mean of the prompts of his or her other recordings, and the nearest
such mean is the classifier's answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Identity:
    """What the embeddings of all cases tell, a value a case; NaN where a case can't be judged.

    Attributes:
        own: similarity of the continuation and its prompt.
        other: mean similarity of the continuation and the prompts of other groups.
        nearer_random: share of the prompts of other groups that it is less similar to than to its own: how often it
            is nearer to its own prompt than to one of them, drawn at random.
        nearest: 1 if it is nearer to its own prompt than to every prompt of another group.
        right: 1 if the nearest mean of a known speaker, the case's own prompt left out, is its own speaker's.
    """

    own: np.ndarray
    other: np.ndarray
    nearer_random: np.ndarray
    nearest: np.ndarray
    right: np.ndarray


def identity(
    made: Sequence[np.ndarray | None],
    prompts: Sequence[np.ndarray | None],
    groups: Sequence[int],
    speakers: Sequence[int],
) -> Identity:
    """Judge every case.

    Args:
        made: embedding of each continuation; None where there is none.
        prompts: of each prompt.
        groups: cases of one group are never each other's "other".
        speakers: number of each case's speaker, -1 where nobody told.
    """
    count = len(made)
    own, other, nearer, nearest, right = (np.full(count, math.nan) for _ in range(5))
    known = [place for place in range(count) if prompts[place] is not None]
    for case in range(count):
        voice, prompt = made[case], prompts[case]
        if voice is None or prompt is None:
            continue
        own[case] = voice @ prompt
        others = [voice @ np.asarray(prompts[place]) for place in known if groups[place] != groups[case]]
        if others:
            other[case] = np.mean(others)
            nearer[case] = np.mean([own[case] > one for one in others])
            nearest[case] = own[case] > max(others)
        right[case] = _named(case, voice, prompts, known, speakers)
    return Identity(own, other, nearer, nearest, right)


def _named(
    case: int,
    voice: np.ndarray,
    prompts: Sequence[np.ndarray | None],
    known: Sequence[int],
    speakers: Sequence[int],
) -> float:
    """Whether the nearest speaker is the right one; NaN where the own has no other recording, or there is no other."""
    of: dict[int, list[np.ndarray]] = {}
    for place in known:
        if place != case and speakers[place] >= 0:
            of.setdefault(speakers[place], []).append(np.asarray(prompts[place]))
    if speakers[case] not in of or len(of) < 2:
        return math.nan
    means = {speaker: np.mean(rows, axis=0) for speaker, rows in of.items()}
    near = {speaker: voice @ mean / max(float(np.linalg.norm(mean)), 1e-12) for speaker, mean in means.items()}
    return float(max(near, key=lambda speaker: near[speaker]) == speakers[case])
