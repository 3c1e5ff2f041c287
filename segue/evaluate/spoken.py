"""What is measured of continuations, case by case: of any sound, and of speech.

cases -> measure -> (n,) values, NaN where one could not be had. Suites put them into tables; both sides of a
comparison go through the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from segue.evaluate import frechet
from segue.evaluate.bench import Bench
from segue.evaluate.cases import Case, each, groups_of, means, wrong
from segue.evaluate.collapse import NOISE_SHARE, SILENCE_SECONDS, SILENT_BELOW_DB
from segue.evaluate.identity import identity
from segue.evaluate.measures import Figure
from segue.evaluate.section import Column
from segue.evaluate.suite import Context
from segue.generate.repetition import LOOPS_FROM

SCORERS = ("voice", "distillmos", "dnsmos")
COLUMNS = {
    column.key: column
    for column in (
        Column("similarity", "voice: similarity to prompt", "higher"),
        Column("similarity_other", "to other prompts", "lower"),
        Column("nearer_random", "nearer to own prompt than to a random other", "higher", 3),
        Column("nearer_all", "than to every other", "higher", 3),
        Column("speaker_accuracy", "speaker named", "higher", 3),
        Column("distillmos", "DistillMOS", "higher"),
        Column("distillmos_less", "DistillMOS less the codec's", "higher"),
        Column("dnsmos", "DNSMOS overall", "higher"),
        Column("dnsmos_speech", "DNSMOS speech", "higher"),
        Column("level_db", "level less the prompt's, dB", "neither", 1),
        Column("silence", "falls silent", "lower", 3),
        Column("noise", "turns to noise", "lower", 3),
        Column("loop", "loops", "lower", 3),
        Column("collapsed", "falls silent, turns to noise or loops", "lower", 3),
        Column("repeated", "repeated 4-grams", "lower", 3),
        Column("frechet", f"Fréchet audio distance ({frechet.EMBEDDING})", "lower"),
    )
}
IDENTITY = ("similarity", "similarity_other", "nearer_random", "nearer_all", "speaker_accuracy")
QUALITY = ("distillmos", "dnsmos", "dnsmos_speech")
FAULTS = ("level_db", "silence", "noise", "loop", "collapsed", "repeated")
TITLES = {"voice": "speaker similarity", "distillmos": "DistillMOS", "dnsmos": "DNSMOS"}
OF_SCORER = {"voice": IDENTITY, "distillmos": ("distillmos", "distillmos_less"), "dnsmos": ("dnsmos", "dnsmos_speech")}
DEFINITIONS = (
    f"Silent: {SILENCE_SECONDS:g} s in a row more than {SILENT_BELOW_DB:g} dB below the prompt's loud frames. Noise: "
    f"more than {NOISE_SHARE:.0%} of the loud frames have a flat spectrum. Loop: more than {LOOPS_FROM:.0%} of the "
    "4-grams of semantic tokens of prompt and continuation, as the tokenizer hears them, had come before."
)

Values = dict[str, np.ndarray]


def heard(context: Context, rows: Sequence[Case], what: str) -> Values:
    """Of any sound: level and collapse."""
    found = each(context, f"{what}: level and collapse", rows, lambda row: wrong(context, row))
    return {
        "level_db": np.array([one.level_db for one in found]),
        "silence": np.array([float(one.silence) for one in found]),
        "noise": np.array([float(one.noise) for one in found]),
        "loop": np.array([float(one.loop) for one in found]),
        "collapsed": np.array([float(one.any) for one in found]),
        "repeated": np.array([one.repeated for one in found]),
    }


def spoken(context: Context, bench: Bench, rows: Sequence[Case], what: str) -> Values:
    """Of speech: voice and quality."""

    def voices(row: Case) -> tuple[np.ndarray | None, np.ndarray | None]:
        return bench.vector("voice", row.wave), bench.vector("voice", row.prompt)

    def qualities(row: Case) -> tuple[float, float, float]:
        dnsmos = bench("dnsmos", row.wave) or {}
        speech = number(dnsmos.get("speech"))
        return bench.number("distillmos", row.wave), number(dnsmos.get("overall")), speech

    pairs = each(context, f"{what}: voices", rows, voices)
    names = sorted({row.speaker for row in rows if row.speaker is not None})
    speakers = [-1 if row.speaker is None else names.index(row.speaker) for row in rows]
    made, prompts = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    who = identity(made, prompts, groups_of(rows), speakers)
    quality = np.array(each(context, f"{what}: quality", rows, qualities), dtype=float).reshape(len(rows), 3)
    return {
        "similarity": who.own,
        "similarity_other": who.other,
        "nearer_random": who.nearer_random,
        "nearer_all": who.nearest,
        "speaker_accuracy": who.right,
        **{name: quality[:, place] for place, name in enumerate(QUALITY)},
    }


def figures(context: Context, rows: Sequence[Case], values: Values) -> dict[str, Figure | None]:
    """Means of every measure, and the Fréchet distance to the recordings' own continuations.

    Where the waves are those continuations themselves the distance would be 0 by its definition, and is left out.
    """
    found = means(context, groups_of(rows), values)
    if all(row.wave is row.truth or row.wave.equal(row.truth) for row in rows):
        return found
    rate, groups = context.bundle.sample_rate, groups_of(rows)
    ours = [frechet.moments(row.wave, rate) for row in rows]
    theirs = [frechet.moments(row.truth, rate) for row in rows]
    figure = frechet.figure(ours, theirs, groups, context.seed)
    return {**found, "frechet": None if math.isnan(figure.value) else figure}


def paired(context: Context, rows: Sequence[Case], ours: Values, theirs: Values, key: str) -> Figure | None:
    """The mean difference of a measure between two systems on the same recordings."""
    return means(context, groups_of(rows), {key: ours[key] - theirs[key]})[key]


def halves(context: Context, rows: Sequence[Case]) -> Figure:
    """The Fréchet distance of one half of the recordings' own continuations to the other: what no distance means."""
    names = sorted({row.group for row in rows})
    rate, first = context.bundle.sample_rate, set(names[::2])
    sides = [[row for row in rows if (row.group in first) == side] for side in (True, False)]
    one, two = ([frechet.moments(row.truth, rate) for row in side] for side in sides)
    return Figure(frechet.distance(one, two))


def shuffled(rows: Sequence[Case]) -> list[Case]:
    """Cases whose continuation is the recording of another group's: what having nothing to do with the prompt means."""
    found = []
    for place, row in enumerate(rows):
        later = [*rows[place + 1 :], *rows[:place]]
        other = next((one for one in later if one.group != row.group), None)
        if other is not None:
            length = min(len(row.wave), len(other.truth))
            found.append(replace(row, wave=other.truth[:length]))
    return found


def details(rows: Sequence[Case], values: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The values file by file, as JSON."""
    return [
        {"recording": row.name, **{key: float(column[place]) for key, column in values.items()}}
        for place, row in enumerate(rows)
    ]


def columns(*keys: str) -> tuple[Column, ...]:
    """By their keys."""
    return tuple(COLUMNS[key] for key in keys)


def not_measured(bench: Bench, titles: Mapping[str, str], of_scorer: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What the missing scorers would have measured, by the columns' keys and in words."""
    return {
        key: f"{titles[name]}: {why}" for name, why in bench.missing.items() for key in of_scorer.get(name, (name,))
    }


def unnamed(rows: Sequence[Case], values: Mapping[str, Any]) -> dict[str, str]:
    """Why speakers weren't named, or who is nearer wasn't told, where there were voices."""
    found, one = {}, len({row.group for row in rows}) < 2
    if not np.isfinite(values["speaker_accuracy"]).any():
        found["speaker_accuracy"] = 'two speakers of two recordings are needed; name them in a manifest as "speaker"'
    if one:
        found |= dict.fromkeys(("nearer_random", "nearer_all", "similarity_other"), "there is one speaker alone")
    return found


def number(value: Any) -> float:
    """As a float; NaN for None."""
    return math.nan if value is None else float(value)
