"""What each rater hears: trials in two forms, checks with known answers, one trial twice, names that tell nothing.

A test of N trials takes N recordings and one more a check. It has two forms, and a rater gets one of them: what is real
in the one is continued in the other (or the two systems change sides), so every recording is heard both ways, no rater
hears one twice, and whoever always gives the same answer is right half of the time.
Source: Borsos et al. 2022, AudioLM (arXiv 2209.03143), the subjective evaluation, for the question.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal["real", "preference"]
KINDS: tuple[Kind, ...] = ("real", "preference")
Part = Literal["test", "check", "repeat"]
What = Literal["real", "first", "second", "noise", "one beep", "two beeps"]
"""What follows the prompt: the recording itself, what the first or the second system made, or a check."""

FORMS = 2


@dataclass(frozen=True)
class Heard:
    """A sound of a trial.

    Attributes:
        id: its file's name, without the suffix.
        what: follows the prompt.
    """

    id: str
    what: What


@dataclass(frozen=True)
class Trial:
    """One question.

    Attributes:
        id: of the trial, in no other form.
        form: 0 or 1.
        part: `test` counts; `check` has a known answer; `repeat` is a test trial for the second time.
        recording: number, from 0.
        sounds: one, or the two that are compared, in the order of the answers.
        right: the answer, 1 or 2, that is right; None where none is. In a test of kind `real`, 1 is "recorded" and 2
            "made".
        of: trial that a repeat repeats; it comes later than that one.
    """

    id: str
    form: int
    part: Part
    recording: int
    sounds: tuple[Heard, ...]
    right: int | None
    of: str | None = None


def checks(kind: Kind) -> int:
    """Trials of a form whose answer is known."""
    return len(_CHECKS[kind])


def form_of(session: str) -> int:
    """The form that a session gets: the last bit of its id (hexadecimal digits)."""
    return int(session[-1], 16) % FORMS


def plan(kind: Kind, trials: int, rng: random.Random) -> list[Trial]:
    """The trials of both forms, in no order that tells anything.

    Args:
        kind: what is asked.
        trials: N of a rater, even, checks and the repeat not counted; recordings 0 to N - 1 are theirs,
            those after them the checks'.
        rng: of halves and names.
    """
    assert trials >= 2 and trials % 2 == 0
    turned = [number % 2 for number in range(trials)]
    rng.shuffle(turned)
    again = rng.randrange(trials)
    found: list[Trial] = []
    for form in range(FORMS):
        for number in range(trials):
            whats, right = _question(kind, (turned[number] + form) % 2)
            one = _trial(form, "test", number, whats, right, rng)
            found.append(one)
            if number == again:
                found.append(_trial(form, "repeat", number, whats, right, rng, one.id))
        for number, (whats, right) in enumerate(_CHECKS[kind]):
            found.append(_trial(form, "check", trials + number, whats, right, rng))
    return sorted(found, key=lambda trial: trial.id)


def name(rng: random.Random, digits: int = 16) -> str:
    """So many hexadecimal digits."""
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


_CHECKS: dict[Kind, list[tuple[tuple[What, ...], int]]] = {
    "real": [(("noise",), 2), (("one beep",), 1), (("two beeps",), 2)],
    "preference": [(("noise", "first"), 2), (("first", "noise"), 1)],
}


def _question(kind: Kind, turned: int) -> tuple[tuple[What, ...], int | None]:
    """What is heard in a test trial, and the right answer."""
    if kind == "real":
        return (("first",), 2) if turned else (("real",), 1)
    return (("second", "first") if turned else ("first", "second")), None


def _trial(
    form: int,
    part: Part,
    recording: int,
    whats: tuple[What, ...],
    right: int | None,
    rng: random.Random,
    of: str | None = None,
) -> Trial:
    sounds = tuple(Heard(name(rng), what) for what in whats)
    return Trial(name(rng), form, part, recording, sounds, right, of)
