"""What a listening test found: figures of the raters who finished and passed every check, and of all who finished.

A rater fails with one wrong answer to a check. Unfinished sessions are counted and left out. The repeated trial tells
of consistency alone; its first answer is the one that counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segue.evaluate.measures import Figure, bootstrap
from segue.listen.answers import Session
from segue.listen.key import Key
from segue.listen.plan import Trial, What, form_of
from segue.listen.statistics import Detection, Share, alpha, detection, share


@dataclass(frozen=True)
class Found:
    """Figures of some raters.

    Attributes:
        raters: how many.
        share: of answers that are right, or that are for the first system. Its interval and p-value take all answers
            as independent.
        over_raters: the same share, with an interval by bootstrap over raters, who differ.
        first_answer: share of the answers that are the first button's, right or wrong: its bias.
        detection: d' and c of "made"; None in a test of preference, or where there is nothing.
        alpha: Krippendorff's, of raters who heard the same; None where no two did, or all said the same.
    """

    raters: int
    share: Share
    over_raters: Figure
    first_answer: Share
    detection: Detection | None
    alpha: float | None


@dataclass(frozen=True)
class OfRecording:
    """How the raters who are kept answered to one recording.

    Attributes:
        name: of the recording.
        real: right answers where it went on as recorded; None in a test of preference.
        made: right answers where it was made; or, of preference, answers for the first system.
    """

    name: str
    real: Share | None
    made: Share


@dataclass(frozen=True)
class Score:
    """What a test found.

    Attributes:
        kept: those who finished and passed every check.
        finished: all who finished.
        unfinished: sessions that are left out.
        failed: raters who finished and failed a check.
        checks: right answers to each kind of check, of all who finished.
        consistent: raters, of those kept, who answered the repeated trial as before.
        ears: raters, of those kept, who heard the sides right: with headphones, on the right ears.
        recordings: each, of those kept.
    """

    kept: Found
    finished: Found
    unfinished: int
    failed: int
    checks: dict[str, Share]
    consistent: Share
    ears: Share
    recordings: tuple[OfRecording, ...]


def score(key: Key, sessions: Sequence[Session], seed: int = 0) -> Score:
    """The figures of a test.

    Args:
        key: of the test.
        sessions: of its raters.
        seed: of the bootstrap.
    """
    trials = {form: [trial for trial in key.trials if trial.form == form] for form in {one.form for one in key.trials}}
    finished = [one for one in sessions if len(one.answers) == len(trials[form_of(one.id)])]
    checks: dict[str, list[bool]] = defaultdict(list)
    kept, consistent = [], []
    for session in finished:
        own = trials[form_of(session.id)]
        asked = [trial for trial in own if trial.part == "check"]
        right = [session.answers[trial.id] == trial.right for trial in asked]
        for trial, passed in zip(asked, right, strict=True):
            checks[_check(trial)].append(passed)
        if all(right):
            kept.append(session)
            again = [trial for trial in own if trial.of is not None]
            consistent += [session.answers[trial.id] == session.answers[trial.of or ""] for trial in again]
    order = "left-right" if key.left_first else "right-left"
    return Score(
        kept=_found(key, kept, seed),
        finished=_found(key, finished, seed),
        unfinished=len(sessions) - len(finished),
        failed=len(finished) - len(kept),
        checks={name: _share(passed) for name, passed in sorted(checks.items())},
        consistent=_share(consistent),
        ears=_share([session.ears == order for session in kept]),
        recordings=tuple(_of_recording(key, kept, number) for number in range(_tested(key))),
    )


def _found(key: Key, sessions: Sequence[Session], seed: int) -> Found:
    answers = [one for number, session in enumerate(sessions) for one in _answers(key, session, number)]
    marks = np.array([one.mark for one in answers])
    over = Figure(float("nan"))
    if answers:
        over = bootstrap(
            range(len(answers)), [one.rater for one in answers], lambda rows: float(marks[rows].mean()), seed
        )
    units: dict[tuple[int, What | None], list[int]] = defaultdict(list)
    for one in answers:
        units[one.unit].append(one.answer if key.kind == "real" else int(one.mark))
    found = None
    if key.kind == "real":
        made, real = ([one.mark for one in answers if one.trial.right == right] for right in (2, 1))
        found = detection(sum(made), len(made), len(real) - sum(real), len(real))
    return Found(
        raters=len(sessions),
        share=_share([one.mark for one in answers]),
        over_raters=over,
        first_answer=_share([one.answer == 1 for one in answers]),
        detection=found,
        alpha=alpha(list(units.values())),
    )


@dataclass(frozen=True)
class _Answered:
    """An answer that counts: its mark is whether it is right, or for the first system."""

    rater: int
    trial: Trial
    answer: int
    mark: bool

    @property
    def unit(self) -> tuple[int, What | None]:
        """What raters must share to be compared: a sound, or a pair in whatever order."""
        return self.trial.recording, self.trial.sounds[0].what if len(self.trial.sounds) == 1 else None


def _answers(key: Key, session: Session, rater: int) -> list[_Answered]:
    found = []
    for name, answer in session.answers.items():
        trial = key.by_id[name]
        if trial.part == "test":
            mark = answer == trial.right if key.kind == "real" else trial.sounds[answer - 1].what == "first"
            found.append(_Answered(rater, trial, answer, mark))
    return found


def _of_recording(key: Key, sessions: Sequence[Session], number: int) -> OfRecording:
    own = [one for session in sessions for one in _answers(key, session, 0) if one.trial.recording == number]
    if key.kind == "preference":
        return OfRecording(key.recordings[number], None, _share([one.mark for one in own]))
    real, made = (_share([one.mark for one in own if one.trial.right == right]) for right in (1, 2))
    return OfRecording(key.recordings[number], real, made)


def _tested(key: Key) -> int:
    return 1 + max(trial.recording for trial in key.trials if trial.part == "test")


def _check(trial: Trial) -> str:
    return " or ".join(sorted({heard.what for heard in trial.sounds} - {"first"}))


def _share(marks: Sequence[bool]) -> Share:
    return share(sum(marks), len(marks))
