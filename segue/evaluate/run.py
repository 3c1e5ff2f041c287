"""Suites run one after another on the same recordings, each section kept as soon as it is there.

The same command again skips what was measured with the same settings and packages; within a suite the cache goes on
where it was stopped. Other settings in the same folder are refused: no report holds figures of two.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from segue.artifact import check_writable
from segue.bundle import Bundle
from segue.data.lock import locked
from segue.errors import SegueError
from segue.evaluate import packages
from segue.evaluate import report as reports
from segue.evaluate import section as sections
from segue.evaluate.cache import Cache
from segue.evaluate.drawn import with_plots
from segue.evaluate.generations import DRAWS, LEAST_SECONDS
from segue.evaluate.pairs.find import find
from segue.evaluate.recordings import Recording, fingerprint, held_out
from segue.evaluate.report import Entry, Report, Settings
from segue.evaluate.scorers import SCORERS, scorer
from segue.evaluate.suite import Context, Kind
from segue.evaluate.suites import SUITES, suite
from segue.lm.decoder import choose_engine

PACKAGES = ("segue", "torch", "numpy", "scikit-learn", "pocketsphinx", "hama", "mido", "matplotlib")
"""What figures come from, beside the scorers' own packages; a suite is measured anew when one of all these was
installed, removed or changed."""

LIMIT = 40
_MUSIC = ("piano", "music")

State = Literal["kept", "begun", "done", "failed"]
Tell = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class Asked:
    """What is to be measured on what.

    Attributes:
        places: folders, tar shards and manifests of held-out recordings.
        kind: of sound.
        limit: recordings at most.
        seed: of every draw.
        prompt_seconds: of each recording, that are gone on with.
        seconds: that are made.
        pairs: folders of pairs, for the suite `lm`.
    """

    places: tuple[Path, ...]
    kind: Kind
    limit: int = LIMIT
    seed: int = 0
    prompt_seconds: float = 3.0
    seconds: float = 7.0
    pairs: tuple[Path, ...] = ()


def kind_of(bundle: Bundle) -> tuple[Kind, str]:
    """The kind of sound that a bundle is for, as its name or its cards tell, and how that is known."""
    fed = [str(name) for card in bundle.cards.values() for name in card.get("data", ())]
    told = {"its name": [bundle.name], "what it was trained on": fed if bundle.cards else []}
    for how, words in told.items():
        if words and all(any(music in word.lower() for music in _MUSIC) for word in words):
            return "piano", how
    return "speech", "its name" if bundle.name == "speech" else "nothing that tells of piano"


def versions(kind: Kind) -> dict[str, str]:
    """Python, every package behind figures of this kind of sound that is installed, and how scorers are set."""
    known = [scorer(name, kind) for name in SCORERS]
    names = dict.fromkeys([*PACKAGES, *(package for one in known for package in one.packages)])
    found = {"python": platform.python_version(), **packages.versions(names)}
    return found | {f"setting of {one.name}": one.setting for one in known if one.setting}


def fingerprint_of_pairs(folders: Sequence[Path]) -> list[str]:
    """Sets of pairs in folders, by name and what they say."""
    told = []
    for pairs in find(folders):
        rows = sorted(
            f"{pair.id} {pair.voice} {pair.right.stat().st_size} {pair.wrong.stat().st_size}" for pair in pairs.pairs
        )
        told.append(f"{pairs.name} {hashlib.sha256(chr(10).join(rows).encode()).hexdigest()[:16]}")
    return told


def run(
    bundle: Bundle,
    asked: Asked,
    names: Sequence[str],
    out: Path,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    tell: Tell = lambda suite, what, done, total: None,
    told: Callable[[str, State, str], None] = lambda suite, state, why: None,
) -> Report:
    """Measure a bundle by some suites, or go on with that.

    Args:
        bundle: that is measured.
        asked: settings.
        names: of the suites, which run in the order of `SUITES`.
        out: folder of the report.
        options: suite -> what it alone is asked for, as plain JSON values.
        tell: told suite, what it does, steps done and steps in all.
        told: told suite, its state, and why it failed.

    Returns:
        the report, with suites that ran before in this folder.

    Raises:
        SegueError: if a suite is unknown, the recordings can't be used, the folder can't be written, or it holds a
            report of other settings. What a suite raises is kept in its entry, and the others go on.
    """
    for name in names:
        if name not in SUITES:
            raise SegueError(f"suite {name}: one of {', '.join(SUITES)}")
    for place in asked.places:
        if place.is_dir() and out.resolve().is_relative_to(place.resolve()):
            raise SegueError(
                f"{out}: lies in the data {place}, which its sounds would become part of; give another --out"
            )
    least = asked.prompt_seconds + LEAST_SECONDS
    recordings, left_out = held_out(
        asked.places,
        asked.limit,
        max(least, asked.prompt_seconds + asked.seconds),
        asked.seed,
        least,
        by_speaker=asked.kind == "speech",
    )
    check_writable(out / reports.REPORT)
    with locked(out):
        report = _begun(out, _settings(bundle, asked, recordings), left_out)
        context = Context(
            bundle,
            tuple(recordings),
            asked.kind,
            out,
            Cache(out / reports.CACHE),
            asked.seed,
            asked.prompt_seconds,
            asked.seconds,
            places=asked.places,
            limit=asked.limit,
            pairs=asked.pairs,
        )
        given = {"lm": {"pairs": fingerprint_of_pairs(asked.pairs)}} if asked.pairs else {}
        for name in (name for name in SUITES if name in names):
            own = sections.plain({**given.get(name, {}), **(options or {}).get(name, {})})
            here = versions(asked.kind)
            if _is_kept(report, name, own, here, out):
                told(name, "kept", "")
                continue
            told(name, "begun", "")
            report = report.without(name)
            reports.save(report, out)

            def mine(what: str, done: int, total: int, name: str = name) -> None:
                tell(name, what, done, total)

            entry = _measured(replace(context, tell=mine, options=own), name, own, here)
            report = report.told(name, entry)
            reports.save(report, out)
            told(name, "done" if entry.failed is None else "failed", entry.failed or "")
    return report


def _settings(bundle: Bundle, asked: Asked, recordings: Sequence[Recording]) -> Settings:
    choice = choose_engine()
    return Settings(
        bundle=bundle.name,
        bundle_fingerprint=bundle.fingerprint,
        temperature=bundle.manner.temperature,
        decoder=bundle.manner.decoder,
        engine=choice.engine,
        weights=choice.weights,
        data=tuple("/".join(place.resolve().parts[-2:]) for place in asked.places),
        data_fingerprint=fingerprint(recordings),
        recordings=len(recordings),
        speakers=len({recording.group for recording in recordings}),
        sound_seconds=round(sum(recording.seconds for recording in recordings), 1),
        kind=asked.kind,
        limit=asked.limit,
        seed=asked.seed,
        prompt_seconds=asked.prompt_seconds,
        seconds=asked.seconds,
        guidance=bundle.manner.guidance,
        tries=bundle.manner.tries_for(asked.seconds),
        draws=DRAWS,
    )


def _begun(out: Path, settings: Settings, left_out: Sequence[str]) -> Report:
    """The report to go on with: a new one, or the one that is there, if it has these settings."""
    if not (out / reports.REPORT).exists():
        return Report(settings, tuple(left_out))
    before = reports.read(out)
    differ = before.settings.differences(settings)
    if differ:
        told = [
            f"{reports.TITLES.get(name, name)} {reports.words(was)} there, {reports.words(now)} now"
            for name, (was, now) in differ.items()
        ]
        raise SegueError(f"{out}: holds a report of other settings ({'; '.join(told)}); give another --out")
    return replace(before, left_out=tuple(left_out))


def _is_kept(report: Report, name: str, own: dict[str, Any], here: dict[str, str], out: Path) -> bool:
    entry = report.suites.get(name)
    if entry is None or entry.failed is not None or entry.options != own or entry.versions != here:
        return False
    return reports.place(out, name).exists()


def _measured(context: Context, name: str, own: dict[str, Any], here: dict[str, str]) -> Entry:
    """Run a suite and keep its section, or why there is none."""
    place, begun, failed = reports.place(context.out, name), time.monotonic(), None
    place.unlink(missing_ok=True)
    try:
        section = suite(name)(context)
        seconds = section.seconds or time.monotonic() - begun
        sections.save(replace(with_plots(section, name, context.out), suite=name, seconds=seconds), place)
    except SegueError as error:
        failed, seconds = " ".join(str(error).split()), time.monotonic() - begun
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return Entry(own, here, when, round(seconds, 3), torch.get_num_threads(), failed)
