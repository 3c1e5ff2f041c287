"""Raters made of rules, and the files they would hand over."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segue.listen.answers import Session
from segue.listen.key import Key
from segue.listen.plan import Trial, form_of

Rule = Callable[[Trial], int]


def knows(trial: Trial) -> int:
    """The right answer, or the first system."""
    if trial.right is not None:
        return trial.right
    return 1 + [heard.what for heard in trial.sounds].index("first")


def always(answer: int) -> Rule:
    """The same answer to everything."""
    return lambda trial: answer


def attentive(rule: Rule) -> Rule:
    """Passes checks, and else follows a rule."""
    return lambda trial: knows(trial) if trial.part == "check" else rule(trial)


def name(number: int, form: int = 0) -> str:
    """A session's id that gets this form."""
    return f"{random.Random(number).getrandbits(124):031x}{form}"


def session(key: Key, rule: Rule, number: int = 0, form: int = 0, ears: str = "left-right") -> Session:
    """A whole session."""
    own = name(number, form)
    return Session(own, ears, {trial.id: rule(trial) for trial in key.trials if trial.form == form_of(own)})


def downloaded(key: Key, one: Session, **changes: Any) -> dict[str, Any]:
    """What the page would let a rater download."""
    answers = [{"trial": trial, "answer": answer, "plays": 1} for trial, answer in one.answers.items()]
    about = {"test": key.test, "session": one.id, "ears": one.ears, "day": "2026-01-31"}
    return {"format": "segue listen answers", "version": 1, **about, "answers": answers} | changes


def write(path: Path, values: dict[str, Any]) -> Path:
    """As a file."""
    path.write_text(json.dumps(values))
    return path
