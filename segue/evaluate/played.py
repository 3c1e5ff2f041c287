"""What is measured of piano continuations: notes, loudness and timbre, each against the recording's own continuation.

cases -> measure -> (n,) values, NaN where one could not be had. A wave's statistics: onsets a second, a histogram of 12
pitch classes, the mean and the deviation of its level, its long-term spectrum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from segue import audio
from segue.evaluate.bench import Bench
from segue.evaluate.cases import Case, each, groups_of
from segue.evaluate.section import Column
from segue.evaluate.suite import Context
from segue.semantic.features import SAMPLE_RATE, LogMel

SCORERS = ("notes", "tempo")
TITLES = {"notes": "notes", "tempo": "tempo"}
STATISTICS = (
    Column("onsets", "onsets a second", "neither", 2),
    Column("loudness", "level, dB", "neither", 1),
    Column("dynamics", "its deviation, dB", "neither", 1),
    Column("key_kept", "pitch classes: cosine with the prompt's", "higher", 2),
    Column("tempo_kept", "tempo is the prompt's", "higher", 2),
)
NEARER = (
    Column("nearer_onsets", "onsets", "higher", 2),
    Column("nearer_pitches", "pitch classes", "higher", 2),
    Column("nearer_loudness", "loudness", "higher", 2),
    Column("nearer", "all three", "higher", 2),
    Column("nearer_timbre", "long-term spectrum", "higher", 2),
)
NEARER_MADE = tuple(replace(column, key=column.key.replace("nearer", "nearer_made")) for column in NEARER)
TIMBRE = (Column("timbre_named", "instrument named", "higher", 2),)
_NOTES = ("onsets", "key_kept", "nearer_onsets", "nearer_pitches", "nearer")
OF_SCORER = {
    "notes": (*_NOTES, *(key.replace("nearer", "nearer_made") for key in _NOTES[2:])),
    "tempo": ("tempo_kept",),
}
TEMPO_WITHIN = 1.08
"""Two tempi are one if their ratio, or its half or double, is not farther from 1: as metres of beat tracking allow."""
ABOUT = (
    "Notes by basic-pitch. Onset densities are compared by their ratio, pitch classes by total variation, loudness by "
    "mean and deviation of its level; all three together are each divided by its mean between two pieces. Chance is "
    "0.5. Instruments are told by the long-term spectrum, the nearest mean of the other recordings' of each. PESQ, "
    "STOI, words, voices, DistillMOS and DNSMOS are only for speech."
)
_BANDS = 40
_LEAST_ONSETS = 0.5
_PITCH_CLASSES = 12


@dataclass(frozen=True)
class Playing:
    """Statistics of a wave.

    Attributes:
        onsets: a second; NaN where notes weren't heard for.
        pitches: (12,) shares of the pitch classes; all 0 without notes.
        level: mean and deviation in dB of frames of 20 ms.
        spectrum: (bands,) mean log-mel less its mean over bands, so that loudness is left out.
        tempo: beats a minute; NaN where it can't be told.
    """

    onsets: float
    pitches: np.ndarray
    level: np.ndarray
    spectrum: np.ndarray
    tempo: float


def played(context: Context, bench: Bench, rows: Sequence[Case], what: str) -> dict[str, np.ndarray]:
    """Every measure of the cases."""
    ours = each(context, f"{what}: notes", rows, lambda row: playing(context, bench, row.wave))
    truths = each(context, "own continuations: notes", rows, lambda row: playing(context, bench, row.truth))
    prompts = each(context, "prompts: notes", rows, lambda row: playing(context, bench, row.prompt))
    groups = groups_of(rows)
    scale = scales(truths, groups)
    near, near_made = (
        np.array([nearer(one, place, truths, rivals, groups, scale) for place, one in enumerate(ours)]).reshape(-1, 5)
        for rivals in (truths, ours)
    )
    pairs = list(zip(ours, prompts, strict=True))
    return {
        "onsets": np.array([one.onsets for one in ours]),
        "loudness": np.array([one.level[0] for one in ours]),
        "dynamics": np.array([one.level[1] for one in ours]),
        "key_kept": np.array([cosine(one.pitches, two.pitches) for one, two in pairs]),
        "tempo_kept": np.array([same_tempo(one.tempo, two.tempo) for one, two in pairs]),
        **{column.key: near[:, place] for place, column in enumerate(NEARER)},
        **{column.key: near_made[:, place] for place, column in enumerate(NEARER_MADE)},
        "timbre_named": named(ours, truths, [row.speaker for row in rows], groups),
    }


def playing(context: Context, bench: Bench, wave: Tensor) -> Playing:
    """A wave's (n,) statistics."""
    rate = context.bundle.sample_rate
    notes, levels = bench("notes", wave), audio.levels_db(wave, rate)
    pitches, onsets = np.zeros(_PITCH_CLASSES), math.nan
    if notes is not None:
        onsets = len(notes) / (len(wave) / rate)
        pitches = np.bincount([int(note[2]) % _PITCH_CLASSES for note in notes], minlength=_PITCH_CLASSES).astype(float)
        pitches /= max(1.0, pitches.sum())
    level = np.array([levels.mean(), levels.std()]) if len(levels) else np.full(2, math.nan)
    return Playing(onsets, pitches, level, _spectrum(wave, rate), bench.number("tempo", wave))


def distances(one: Playing, two: Playing) -> np.ndarray:
    """In onsets, pitch classes, loudness and long-term spectrum: (4,)."""
    return np.array(
        [
            abs(math.log2((one.onsets + _LEAST_ONSETS) / (two.onsets + _LEAST_ONSETS))),
            math.nan if math.isnan(one.onsets + two.onsets) else np.abs(one.pitches - two.pitches).sum() / 2,
            np.linalg.norm(one.level - two.level),
            np.linalg.norm(one.spectrum - two.spectrum),
        ]
    )


def scales(truths: Sequence[Playing], groups: Sequence[int]) -> np.ndarray:
    """Mean distance between the true continuations of two pieces: (4,); NaN where there is one piece alone."""
    pairs = [
        distances(one, truths[other])
        for place, one in enumerate(truths)
        for other in range(place + 1, len(truths))
        if groups[place] != groups[other]
    ]
    return np.array([_mean(column) for column in np.array(pairs).T]) if pairs else np.full(4, math.nan)


def nearer(
    made: Playing,
    place: int,
    truths: Sequence[Playing],
    rivals: Sequence[Playing],
    groups: Sequence[int],
    scale: np.ndarray,
) -> list[float]:
    """Share of the other pieces' rivals that are farther from this piece's true continuation than what was made is.

    Args:
        made: continuation of the piece.
        place: of the piece.
        truths: true continuations of all pieces.
        rivals: what is compared, a piece: the true continuations, or those that were made.
        groups: of the pieces.
        scale: see `scales`.

    Returns:
        in onsets, pitch classes, loudness, all three and long-term spectrum; NaN where what was made has no such
        statistic, and of rivals without one nothing is said.
    """
    own = distances(made, truths[place])
    others = [distances(rivals[k], truths[place]) for k in range(len(rivals)) if groups[k] != groups[place]]
    if not others:
        return [math.nan] * 5
    table = np.array([own, *others])
    together = (table[:, :3] / np.maximum(scale[:3], 1e-9)).sum(1, keepdims=True)
    table = np.concatenate([table[:, :3], together, table[:, 3:]], axis=1)
    wins = np.where(np.isnan(table[0] - table[1:]), math.nan, (table[0] < table[1:]) + 0.5 * (table[0] == table[1:]))
    return [_mean(column) for column in wins.T]


def _mean(values: np.ndarray) -> float:
    """Of those that there are; NaN where there are none."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else math.nan


def named(
    made: Sequence[Playing], truths: Sequence[Playing], speakers: Sequence[str | None], groups: Sequence[int]
) -> np.ndarray:
    """Whether the nearest mean spectrum of an instrument, from other recordings, is the right one's: (n,)."""
    found = np.full(len(made), math.nan)
    for case, one in enumerate(made):
        of: dict[str, list[np.ndarray]] = {}
        for place, speaker in enumerate(speakers):
            if speaker is not None and groups[place] != groups[case]:
                of.setdefault(speaker, []).append(truths[place].spectrum)
        if speakers[case] in of and len(of) > 1:
            near = {name: float(np.linalg.norm(np.mean(rows, axis=0) - one.spectrum)) for name, rows in of.items()}
            found[case] = float(min(near, key=lambda name: near[name]) == speakers[case])
    return found


def same_tempo(one: float, two: float) -> float:
    """1 if two tempi are one, or one the double of the other; NaN where one isn't known."""
    if not (one > 0 and two > 0):
        return math.nan
    off = abs(math.log2(one / two))
    return float(min(off, abs(off - 1)) <= math.log2(TEMPO_WITHIN))


def unnamed(rows: Sequence[Case]) -> dict[str, str]:
    """Why instruments weren't named."""
    if len({row.speaker for row in rows if row.speaker is not None}) < 2:
        return {"timbre_named": 'two instruments are needed; name them in a manifest as "speaker"'}
    return {}


def cosine(one: np.ndarray, two: np.ndarray) -> float:
    """Of two histograms; NaN where one is empty."""
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(one @ two) / size if size else math.nan


def _spectrum(wave: Tensor, rate: int) -> np.ndarray:
    samples = audio.to_mono(wave.numpy(), rate, SAMPLE_RATE)
    if len(samples) < SAMPLE_RATE // 10:
        return np.full(_BANDS, math.nan)
    mean = LogMel(_BANDS).raw(torch.from_numpy(samples)[None])[0].double().mean(0)
    return np.asarray((mean - mean.mean()).numpy())
