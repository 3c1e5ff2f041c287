"""Two reports side by side: every figure that both have, which is better, and whether their intervals say so.

Figures of other data, other settings or other versions of a scorer don't compare; that is told before any of them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from segue.errors import SegueError
from segue.evaluate import report as reports
from segue.evaluate.measures import Figure
from segue.evaluate.report import Report
from segue.evaluate.section import Better, Section

Verdict = Literal["first", "second", "equal", "unclear", "neither"]
_OF_THE_SYSTEM = (
    "bundle",
    "bundle_fingerprint",
    "temperature",
    "guidance",
    "tries",
    "draws",
    "decoder",
    "engine",
    "weights",
    "seed",
)
"""Settings that two reports may be compared for: figures of unlike ones compare."""


@dataclass(frozen=True)
class Compared:
    """A figure that both reports have.

    Attributes:
        suite: that measured it.
        table: title of its table.
        row: name of its row.
        column: title of the measure.
        better: which way is better.
        decimals: that are shown.
        first: of the first report.
        second: of the second one.
        verdict: whose is better; `unclear` where their intervals overlap or one has none, `equal` where the values are
            the same, `neither` where there is no better.
    """

    suite: str
    table: str
    row: str
    column: str
    better: Better
    decimals: int
    first: Figure
    second: Figure
    verdict: Verdict

    @property
    def difference(self) -> float:
        """Of the second to the first."""
        return self.second.value - self.first.value

    @property
    def overlap(self) -> bool | None:
        """Whether the intervals do; None where one has none."""
        ends = (self.first.low, self.first.high, self.second.low, self.second.high)
        if not all(map(math.isfinite, ends)):
            return None
        return self.first.low <= self.second.high and self.second.low <= self.first.high


@dataclass(frozen=True)
class Comparison:
    """Two reports.

    Attributes:
        names: of them.
        figures: that both have, in the order of the first.
        systems: what differs of what was measured: name -> both values.
        settings: what differs of how it was measured, with which figures don't compare.
        versions: `suite: package` -> both versions, of scorers that both used.
        only: figures that one report alone has: report -> how many, by suite.
    """

    names: tuple[str, str]
    figures: tuple[Compared, ...]
    systems: dict[str, tuple[Any, Any]]
    settings: dict[str, tuple[Any, Any]]
    versions: dict[str, tuple[str, str]]
    only: tuple[dict[str, int], dict[str, int]]

    @property
    def warnings(self) -> list[str]:
        """Why figures don't compare, a line each; none if they do."""
        lines = [
            f"{reports.TITLES.get(name, name)} differs: {reports.words(one)} and {reports.words(two)}"
            for name, (one, two) in self.settings.items()
        ]
        return lines + [f"{name} differs in version: {one} and {two}" for name, (one, two) in self.versions.items()]

    def plain(self) -> dict[str, Any]:
        """As JSON values, but for figures that are no numbers."""
        own = asdict(self)
        for figure, values in zip(self.figures, own["figures"], strict=True):
            values |= {"difference": figure.difference, "overlap": figure.overlap}
        return {"comparable": not self.warnings, "warnings": self.warnings, **own}


def says(verdict: Verdict, names: tuple[str, str]) -> str:
    """A verdict in words."""
    better = {"first": names[0], "second": names[1]}
    return f"{better[verdict]} is better" if verdict in better else "" if verdict == "neither" else verdict


def compare(first: Path, second: Path) -> Comparison:
    """Compare two reports.

    Args:
        first: folder of a report.
        second: folder of another.

    Raises:
        SegueError: if one is none, or they have no figure in common.
    """
    folders = (first, second)
    told = [reports.read(folder) for folder in folders]
    sections = [reports.sections(report, folder) for report, folder in zip(told, folders, strict=True)]
    figures = [_figures(own) for own in sections]
    both = [place for place in figures[0] if place in figures[1]]
    if not both:
        raise SegueError(f"{first} and {second}: no figure is in both reports; run the same suites")
    differ = told[0].settings.differences(told[1].settings)
    return Comparison(
        names=_names(told, folders),
        figures=tuple(_compared(place, figures[0][place], figures[1][place]) for place in both),
        systems={name: values for name, values in differ.items() if name in _OF_THE_SYSTEM},
        settings={name: values for name, values in differ.items() if name not in (*_OF_THE_SYSTEM, *_same(told))}
        | _options(told),
        versions=_versions(told, sections),
        only=(_counted(figures[0], figures[1]), _counted(figures[1], figures[0])),
    )


_Place = tuple[str, str, str, str]
_Found = tuple[str, str, Better, int, Figure]


def _figures(sections: dict[str, Section]) -> dict[_Place, _Found]:
    """Every figure that was measured, by suite, table, row and column."""
    return {
        (suite, table.key, row, column.key): (table.title, column.title, column.better, column.decimals, figure)
        for suite, section in sections.items()
        for table in section.tables
        for row, own in table.rows.items()
        for column in table.columns
        if (figure := own.get(column.key)) is not None and math.isfinite(figure.value)
    }


def _compared(place: _Place, first: _Found, second: _Found) -> Compared:
    suite, _, row, _ = place
    table, column, better, decimals, one = first
    two = second[-1]
    plain = Compared(suite, table, row, column, better, decimals, one, two, "neither")
    return Compared(**{**vars(plain), "verdict": _verdict(plain)})


def _verdict(pair: Compared) -> Verdict:
    if pair.difference == 0:
        return "equal"
    if pair.better == "neither":
        return "neither"
    if pair.overlap is not False:
        return "unclear"
    return "second" if (pair.difference > 0) == (pair.better == "higher") else "first"


def _same(told: list[Report]) -> tuple[str, ...]:
    """Settings whose difference makes none where the recordings are the same ones."""
    one, two = (report.settings for report in told)
    if one.data_fingerprint != two.data_fingerprint:
        return ()
    return ("data", "limit", "recordings", "speakers", "sound_seconds")


def _options(told: list[Report]) -> dict[str, tuple[Any, Any]]:
    """Options of suites that were asked for differently."""
    one, two = (report.suites for report in told)
    return {
        f"options of {suite}": (_told(entry.options), _told(two[suite].options))
        for suite, entry in one.items()
        if suite in two and entry.options != two[suite].options
    }


def _told(options: dict[str, Any]) -> str:
    return ", ".join(f"{name} {reports.words(value)}" for name, value in options.items()) or "none"


def _versions(told: list[Report], sections: list[dict[str, Section]]) -> dict[str, tuple[str, str]]:
    """Versions of Segue and of scorers that both used, where they differ."""
    found = {}
    for suite in (suite for suite in sections[0] if suite in sections[1]):
        one, two = (
            {"segue": report.suites[suite].versions.get("segue", "unknown")} | own[suite].versions
            for report, own in zip(told, sections, strict=True)
        )
        for package in sorted(one.keys() & two.keys()):
            if one[package] != two[package]:
                found[f"{suite}: {package}"] = (one[package], two[package])
    return found


def _counted(ours: dict[_Place, _Found], theirs: dict[_Place, _Found]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for place in ours:
        if place not in theirs:
            counts[place[0]] = counts.get(place[0], 0) + 1
    return counts


def _names(told: list[Report], folders: tuple[Path, Path]) -> tuple[str, str]:
    """Bundles' names, or folders' where those are the same."""
    one, two = (report.settings.bundle for report in told)
    if one != two:
        return one, two
    first, second = (folder.resolve() for folder in folders)
    return (first.name, second.name) if first.name != second.name else (str(folders[0]), str(folders[1]))
