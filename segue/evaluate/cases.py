"""A continuation, or what stands beside it, as the suites see it: one row of sounds, and figures over many rows.

A system's cases: prompt, wave (n,) each, at the bundle's sample rate. The anchor's cases are the recordings' own
continuations through the codec: what a continuation of the same sound could be at best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from segue import audio
from segue.evaluate import measures
from segue.evaluate.collapse import Faults, faults
from segue.evaluate.generations import Made, continuations
from segue.evaluate.measures import Figure
from segue.evaluate.suite import Context
from segue.generate.continuation import System
from segue.units import seconds_to_samples

Row = TypeVar("Row")
Value = TypeVar("Value")
ANCHOR = "the recording itself, through the codec"
NAMES: dict[System, str] = {
    "full": "continuation",
    "acoustic-only": "acoustic-only continuation",
    "semantic-only": "semantic-only continuation",
}


@dataclass(frozen=True)
class Case:
    """A prompt and what is taken to follow it.

    Attributes:
        number: of the recording among the context's.
        name: of the recording.
        speaker: name of its speaker as told; None where nobody told.
        group: what the bootstrap draws.
        prompt: (n,) as recorded.
        wave: (m,) what follows, of some system or of the recording.
        truth: (m,) what the recording goes on with, through the codec.
    """

    number: int
    name: str
    speaker: str | None
    group: int
    prompt: Tensor
    wave: Tensor
    truth: Tensor


def cases(context: Context, system: System = "full", seed: int = 0) -> list[Case]:
    """Every recording gone on with by a system; both sides are as long as the recording goes on."""
    return [case_of(made) for made in continuations(context, system, (seed,))]


def case_of(made: Made) -> Case:
    """As the suites see it; what is made beyond the recording's end is left out, so that like is compared with like."""
    length = min(len(made.wave), len(made.truth))
    item = made.recording.item
    return Case(
        made.number,
        item.id,
        item.facts.get("speaker"),
        made.recording.group,
        made.prompt,
        made.wave[:length],
        made.truth[:length],
    )


def anchors(rows: Sequence[Case]) -> list[Case]:
    """The same cases with the recordings' own continuations in place of what was made."""
    return [replace(row, wave=row.truth) for row in rows]


def tokens(context: Context, *waves: Tensor) -> Tensor:
    """Semantic tokens (T,) of sounds put one after another, as the bundle's tokenizer hears them."""
    whole = torch.cat(waves)
    least = seconds_to_samples(0.1, context.bundle.sample_rate)
    if len(whole) < least:
        return torch.zeros(0, dtype=torch.long)
    rate = context.bundle.semantic.sample_rate
    heard = torch.from_numpy(audio.to_mono(whole.numpy(), context.bundle.sample_rate, rate))
    return context.bundle.semantic.encode(heard[None])[0]


def wrong(context: Context, case: Case) -> Faults:
    """What is wrong with a case; loops are counted over the tokens of what is heard, so that all systems are alike."""
    said = tokens(context, case.prompt, case.wave)
    return faults(case.prompt, case.wave, said, context.bundle.sample_rate)


def each(context: Context, what: str, rows: Sequence[Row], make: Callable[[Row], Value]) -> list[Value]:
    """A value a row, with the progress told."""
    found = []
    for done, row in enumerate(rows):
        context.tell(what, done, len(rows))
        found.append(make(row))
    context.tell(what, len(rows), len(rows))
    return found


def means(
    context: Context, groups: Sequence[int], values: Mapping[str, Sequence[float] | np.ndarray]
) -> dict[str, Figure | None]:
    """Each measure's mean over rows with its interval over groups; None where no row has a value."""
    found = {key: measures.mean(list(column), groups, context.seed) for key, column in values.items()}
    return {key: None if math.isnan(figure.value) else figure for key, figure in found.items()}


def groups_of(rows: Sequence[Case]) -> list[int]:
    """What the bootstrap draws, a number a case."""
    return [row.group for row in rows]
