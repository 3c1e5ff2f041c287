"""The suite `continuation`: whether what follows a prompt has its voice and its quality, goes on well, and varies.

Recordings' beginnings -> continuations by the full system -> figures with 95 % intervals by bootstrap over speakers.
Beside them stand the recordings' own continuations through the codec: what a continuation could be at best.

Source: AudioLM, arXiv 2209.03143, experiments (the voice of continuations, their quality); see each scorer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from segue.errors import SegueError
from segue.evaluate import played, spoken
from segue.evaluate import plots as pictures
from segue.evaluate.bench import Bench
from segue.evaluate.cases import ANCHOR, NAMES, Case, anchors, cases, groups_of, means
from segue.evaluate.diversity import diversity
from segue.evaluate.overtime import over_time
from segue.evaluate.players import player
from segue.evaluate.section import Player, Plot, Section, Table
from segue.evaluate.suite import Context

PLAYED = 4
"""Recordings that can be listened to in the report."""
OTHER = "another recording's, through the codec"


def run(context: Context) -> Section:
    """Measure continuations.

    Raises:
        SegueError: if no recording is long enough.
    """
    began = time.monotonic()
    rows = cases(context)
    if not rows:
        raise SegueError(
            f"no recording has {context.prompt_seconds:g} s of prompt and 2 s to go on; give longer ones, or a shorter "
            "prompt"
        )
    if context.kind == "piano":
        return replace(_piano(context, rows), seconds=time.monotonic() - began)
    return replace(_speech(context, rows), seconds=time.monotonic() - began)


def _speech(context: Context, rows: Sequence[Case]) -> Section:
    bench = Bench(spoken.SCORERS, "speech", context.bundle.sample_rate, context.cache)
    found: dict[str, dict[str, Any]] = {}
    details: dict[str, Any] = {}
    measured = {}
    for name, own in ((NAMES["full"], rows), (ANCHOR, anchors(rows)), (OTHER, spoken.shuffled(rows))):
        measured[name] = spoken.heard(context, own, name) | spoken.spoken(context, bench, own, name)
        found[name] = spoken.figures(context, own, measured[name])
        details[name] = spoken.details(own, measured[name])
    found[NAMES["full"]]["distillmos_less"] = spoken.paired(
        context, rows, measured[NAMES["full"]], measured[ANCHOR], "distillmos"
    )
    systems = {name: row for name, row in found.items() if name != OTHER}
    varied, note = diversity(context, bench)
    course = over_time(context, bench, rows)
    plots, undrawn = _drawn(context, course)
    tables = (
        Table("identity", "Whose voice it is", spoken.columns(*spoken.IDENTITY), found),
        Table("quality", "Quality", spoken.columns(*spoken.QUALITY, "distillmos_less", "frechet"), systems),
        Table("collapse", "Level, silence, noise and loops", spoken.columns(*spoken.FAULTS), systems),
        course,
        varied,
    )
    return Section(
        suite="continuation",
        title="Continuation",
        about=_about(context, rows) + " " + spoken.DEFINITIONS,
        tables=tables,
        players=_players(context, rows),
        plots=plots,
        notes=(*note, *undrawn, *_notes(context, rows), *bench.notes(spoken.TITLES)),
        details=details,
        versions=bench.versions,
        not_measured=spoken.unnamed(rows, measured[ANCHOR])
        | spoken.not_measured(bench, spoken.TITLES, spoken.OF_SCORER),
    )


def _piano(context: Context, rows: Sequence[Case]) -> Section:
    bench = Bench(played.SCORERS, "piano", context.bundle.sample_rate, context.cache)
    found: dict[str, dict[str, Any]] = {}
    likeness: dict[str, dict[str, Any]] = {}
    details: dict[str, Any] = {}
    for name, own in ((NAMES["full"], rows), (ANCHOR, anchors(rows)), (OTHER, spoken.shuffled(rows))):
        values = spoken.heard(context, own, name)
        playing = played.played(context, bench, own, name)
        found[name] = spoken.figures(context, own, values)
        likeness[name] = means(context, groups_of(own), playing)
        details[name] = spoken.details(own, values | playing)
    systems = {name: row for name, row in found.items() if name != OTHER}
    nearer = {name: row for name, row in likeness.items() if name != ANCHOR}
    varied, note = diversity(context, None)
    tables = (
        Table("piano", "Notes, loudness and timbre", played.STATISTICS, likeness),
        Table("nearer", "Nearer to the true continuation than a random other piece's", played.NEARER, nearer),
        Table(
            "nearer_made",
            "Nearer to the true continuation than what was made of a random other piece",
            played.NEARER_MADE,
            {NAMES["full"]: likeness[NAMES["full"]]},
        ),
        Table("timbre", "Whose timbre it has", played.TIMBRE, likeness),
        Table("collapse", "Level, silence, noise and loops", spoken.columns(*spoken.FAULTS, "frechet"), systems),
        varied,
    )
    return Section(
        suite="continuation",
        title="Continuation",
        about=" ".join([_about(context, rows), spoken.DEFINITIONS, played.ABOUT]),
        tables=tables,
        players=_players(context, rows),
        notes=(*note, *_notes(context, rows), *bench.notes(played.TITLES)),
        details=details,
        versions=bench.versions,
        not_measured=played.unnamed(rows) | spoken.not_measured(bench, played.TITLES, played.OF_SCORER),
    )


def _about(context: Context, rows: Sequence[Case]) -> str:
    speakers = {row.speaker for row in rows if row.speaker is not None}
    known = f" of {len(speakers)} known speakers" if speakers and context.kind == "speech" else ""
    together = " (a speaker's recordings together where the speaker is told)" if context.kind == "speech" else ""
    return (
        f"{len(rows)} recordings{known}, {context.prompt_seconds:g} s of each gone on with for {context.seconds:g} s, "
        "or as long as the recording lasts. The recording's own continuation isn't compared with itself. "
        "Intervals: 95 %, by bootstrap over "
        f"{len({row.group for row in rows})} groups{together}."
    )


def _notes(context: Context, rows: Sequence[Case]) -> list[str]:
    left, found = len(context.recordings) - len(rows), []
    if left:
        found.append(f"{left} of {len(context.recordings)} recordings are too short, or begin with silence.")
    apart = spoken.halves(context, rows)
    found.append(
        f"Fréchet audio distance between two halves of the recordings' own continuations: {apart.value:.2f}; a "
        "distance of that size is none."
    )
    if context.kind == "speech" and any(row.speaker is None for row in rows):
        found.append("Speakers of some recordings aren't told: another recording may be the same speaker's.")
    return found


def _drawn(context: Context, course: Table) -> tuple[tuple[Plot, ...], list[str]]:
    """The picture of the measures over time, or a note that says why there is none."""
    title, place = "Voice and quality over time", "pictures/continuation-over-time.png"
    panels = (("voice", ("similarity", "similarity_anchor")), ("quality", ("distillmos", "distillmos_anchor")))
    try:
        pictures.over_time(course, panels, context.out / place)
    except SegueError as error:
        return (), [f"{title} is not drawn: {error}"]
    return (Plot(title, place),), []


def _players(context: Context, rows: Sequence[Case]) -> tuple[Player, ...]:
    found = []
    for row in rows[:PLAYED]:
        for key, title, wave in (("full", "continued", row.wave), ("truth", ANCHOR, row.truth)):
            name = f"continuation-{row.number:04d}-{key}"
            found.append(player(context, name, title, row.name, torch.cat([row.prompt, wave])))
    return tuple(found)
