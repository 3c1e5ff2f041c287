"""The answer key of a test, in a file apart from what raters get: `key.json` beside the folder `page`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from segue.artifact import read_json, written_file
from segue.errors import SegueError
from segue.listen.plan import FORMS, Heard, Kind, Trial

PAGE, ANSWERS = "page", "answers.jsonl"
"""In a test's folder: what raters get, and what `segue listen serve` is sent."""

_KEY, _FORMAT, _VERSION = "key.json", "segue listen key", 1


@dataclass(frozen=True)
class Key:
    """All that raters must not know.

    Attributes:
        test: the test's id.
        kind: what is asked.
        systems: what is compared: ("real", a system) or two systems.
        trials: of both forms.
        recordings: name of each.
        left_first: whether the sound check begins on the left.
        facts: what the test was made of: bundles, settings, versions, gains.
    """

    test: str
    kind: Kind
    systems: tuple[str, str]
    trials: tuple[Trial, ...]
    recordings: tuple[str, ...]
    left_first: bool
    facts: dict[str, Any]

    @cached_property
    def by_id(self) -> dict[str, Trial]:
        """Every trial by its id."""
        return {trial.id: trial for trial in self.trials}

    @cached_property
    def length(self) -> int:
        """Trials of a rater."""
        return len(self.trials) // FORMS

    def save(self, folder: Path) -> None:
        """Write it into a test's folder.

        Raises:
            SegueError: if it can't be written.
        """
        with written_file(folder / _KEY) as beside:
            whole = {"format": _FORMAT, "version": _VERSION, **asdict(self)}
            beside.write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n")


def is_test(folder: Path) -> bool:
    """Whether a whole test lies there."""
    return (folder / _KEY).exists()


def read_key(folder: Path) -> Key:
    """The key of a test.

    Raises:
        SegueError: if there is no test, or its key is damaged.
    """
    path = folder / _KEY
    if not path.is_file():
        raise SegueError(f"{folder}: no listening test (no {_KEY}); give the --out of segue listen make")
    values = read_json(path, "answer key")
    if values.get("format") != _FORMAT or values.get("version") != _VERSION:
        raise SegueError(f"{path}: no answer key that this version of Segue knows; make the test anew")
    try:
        trials = tuple(
            Trial(**{**trial, "sounds": tuple(Heard(**heard) for heard in trial["sounds"])})
            for trial in values["trials"]
        )
        first, second = values["systems"]
        return Key(
            values["test"],
            cast(Kind, values["kind"]),
            (first, second),
            trials,
            tuple(values["recordings"]),
            values["left_first"],
            values["facts"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SegueError(f"{path}: a damaged answer key ({error}); make the test anew") from error
