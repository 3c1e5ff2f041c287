"""What the doctor says: a finding is one thing looked at, with figures, a verdict, what it means and what to do.

A subject is `PART` or `PART: what of it`; `conclusions` draws each part's findings together in one line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["ok", "warn", "bad"]
Figure = float | int | str
SEVERITY: dict[Verdict, int] = {"ok": 0, "warn": 1, "bad": 2}
MOST_ITEMS = 20
"""Names that a finding lists, at most; its figures tell how many there are."""


@dataclass(frozen=True)
class Finding:
    """One thing the doctor looked at.

    Attributes:
        subject: such as `data: clipping` or `coarse stage: prompt`.
        verdict: `ok`; `warn` where it costs quality or can't be judged; `bad` where it will not work as it is.
        figures: name, with its unit -> value.
        meaning: in plain words.
        remedy: what to do; empty where nothing is needed.
        items: files or losses that it is about, the first of them.
    """

    subject: str
    verdict: Verdict
    figures: dict[str, Figure] = field(default_factory=dict)
    meaning: str = ""
    remedy: str = ""
    items: tuple[str, ...] = ()

    @property
    def part(self) -> str:
        """What the subject is a subject of."""
        return self.subject.split(":")[0]

    def plain(self) -> dict[str, Any]:
        """As JSON values; a figure that is no number is left out."""
        values = asdict(self)
        values["figures"] = {
            name: float(f"{value:.6g}") if isinstance(value, float) else value
            for name, value in self.figures.items()
            if not isinstance(value, float) or math.isfinite(value)
        }
        return values


Findings = Iterator[Finding]


def judged(value: float, warn: float, bad: float) -> Verdict:
    """The verdict on a value that should be small: `warn` and `bad` are where those begin, above or at which it is."""
    return "bad" if value >= bad else "warn" if value >= warn else "ok"


def worst(findings: Iterable[Finding]) -> Verdict:
    """The gravest verdict; `ok` of none."""
    return max((finding.verdict for finding in findings), key=SEVERITY.__getitem__, default="ok")


def first_of(names: Sequence[str]) -> tuple[str, ...]:
    """The first names of a list that may be long."""
    return tuple(names[:MOST_ITEMS])


def conclusions(findings: Iterable[Finding]) -> dict[str, tuple[Verdict, str]]:
    """part -> its gravest verdict and a line: what is wrong, or that nothing is.

    A model whose losses were looked at and that nothing is wrong with is trained enough.
    """
    parts: dict[str, list[Finding]] = {}
    for finding in findings:
        parts.setdefault(finding.part, []).append(finding)
    found: dict[str, tuple[Verdict, str]] = {}
    for part, of_part in parts.items():
        troubles = sorted((one for one in of_part if one.verdict != "ok"), key=lambda one: -SEVERITY[one.verdict])
        judged_by_curve = any(one.subject.endswith(": learning curve") for one in of_part)
        fine = "trained enough" if judged_by_curve else "nothing wrong found"
        found[part] = (worst(of_part), "; ".join(one.meaning for one in troubles) or fine)
    return found
