"""A report on disk: `report.json` (what ran, on what, when), a section a suite, sounds and pictures beside them.

    OUT/report.json  OUT/SUITE.json  OUT/report.html  OUT/sounds/  OUT/pictures/  OUT/cache/

All figures of one folder were measured with the same settings; a suite's own options are kept with its entry.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from segue.artifact import read_json, written_file
from segue.errors import SegueError
from segue.evaluate import section
from segue.evaluate.section import Section
from segue.evaluate.suites import SUITES

FORMAT_VERSION = 1
REPORT, PAGE, CACHE = "report.json", "report.html", "cache"


TITLES = {
    "bundle_fingerprint": "fingerprint of the bundle",
    "data_fingerprint": "fingerprint of the recordings",
    "sound_seconds": "seconds of sound",
    "kind": "kind of sound",
    "prompt_seconds": "seconds of prompt",
    "seconds": "seconds made",
}
"""Settings by the names that people read, where those differ."""


def words(value: Any) -> str:
    """A setting's value as people read it."""
    return ", ".join(map(words, value)) if isinstance(value, tuple | list) else str(value)


@dataclass(frozen=True)
class Settings:
    """What every figure of a report depends on.

    Attributes:
        bundle: its name.
        bundle_fingerprint: of all its parts.
        temperature: of the three stages.
        decoder: `ar` or `parallel`.
        engine: that decodes the stages, and
        weights: the numbers it works with.
        data: the last two names of each place that recordings are from.
        data_fingerprint: of the recordings' content.
        recordings: how many were chosen.
        speakers: of how many speakers, or of how many recordings where speakers aren't told.
        sound_seconds: of sound in all.
        kind: `speech` or `piano`.
        limit: of recordings.
        seed: of every draw.
        prompt_seconds: of each recording, that are gone on with.
        seconds: that are made.
        guidance: of the coarse stage.
        tries: made of each continuation, of which the most fitting one is kept.
        draws: whether recordings have random draws of their own.
    """

    bundle: str
    bundle_fingerprint: str
    temperature: tuple[float, ...]
    decoder: str
    engine: str
    weights: str
    data: tuple[str, ...]
    data_fingerprint: str
    recordings: int
    speakers: int
    sound_seconds: float
    kind: str
    limit: int
    seed: int
    prompt_seconds: float
    seconds: float
    guidance: float = 1.0
    tries: int = 1
    draws: str = "the same for every recording"

    def differences(self, other: Settings) -> dict[str, tuple[Any, Any]]:
        """What is not the same: attribute -> own value, the other's."""
        ours, theirs = vars(self), vars(other)
        return {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}


@dataclass(frozen=True)
class Entry:
    """How a suite ran.

    Attributes:
        options: that were its own.
        versions: of Python, Segue, torch and every scorer that was installed then.
        when: it ended, UTC.
        seconds: that it took, without what was kept from before.
        threads: of the CPU.
        failed: why it could not be measured; None if it was.
    """

    options: dict[str, Any]
    versions: dict[str, str]
    when: str
    seconds: float
    threads: int
    failed: str | None = None


@dataclass(frozen=True)
class Report:
    """What ran.

    Attributes:
        settings: of all of it.
        left_out: recordings that could not be read, a line each.
        suites: by name, in the order of the table of suites.
    """

    settings: Settings
    left_out: tuple[str, ...] = ()
    suites: dict[str, Entry] = field(default_factory=dict)

    def told(self, name: str, entry: Entry) -> Report:
        """With what is now known of a suite."""
        known = self.suites | {name: entry}
        return replace(self, suites={suite: known[suite] for suite in SUITES if suite in known})

    def without(self, name: str) -> Report:
        """With nothing known of a suite."""
        return replace(self, suites={suite: entry for suite, entry in self.suites.items() if suite != name})


def save(report: Report, folder: Path) -> None:
    """Write `report.json`.

    Raises:
        SegueError: if it can't be written.
    """
    with written_file(folder / REPORT) as beside:
        values = {"format_version": FORMAT_VERSION, **asdict(report)}
        beside.write_text(json.dumps(section.plain(values), indent=1, allow_nan=False) + "\n")


def read(folder: Path) -> Report:
    """The report that a folder holds.

    Raises:
        SegueError: if there is none, or none that this version knows.
    """
    values = read_json(folder / REPORT, "report of segue evaluate")
    version = values.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise SegueError(f"{folder / REPORT}: format {version}, a report of format {FORMAT_VERSION} is read here")
    try:
        told = values["settings"]
        settings = Settings(**told | {"temperature": (*told["temperature"],), "data": (*told["data"],)})
        suites = {str(name): Entry(**entry) for name, entry in values["suites"].items()}
        return Report(settings, (*values["left_out"],), suites)
    except (KeyError, TypeError, AttributeError) as error:
        raise SegueError(f"{folder / REPORT}: no report that this version knows ({error}); evaluate anew") from error


def place(folder: Path, suite: str) -> Path:
    """Where the section of a suite is kept."""
    return folder / f"{suite}.json"


def sections(report: Report, folder: Path) -> dict[str, Section]:
    """What was measured, by suite, in order.

    Raises:
        SegueError: if a section can't be read.
    """
    return {name: section.read(place(folder, name)) for name, entry in report.suites.items() if entry.failed is None}
