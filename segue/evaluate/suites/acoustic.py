"""The suite `acoustic`: what is left of a recording when it is made again from its semantic tokens alone.

Recordings -> semantic tokens -> coarse and fine stage -> waves -> errors of a recogniser, quality, and how like the
voice is. Words should stay and the voice should not: semantic tokens say what is said, and the acoustic stages are free
to choose who says it. Beside it stand the recordings themselves, and those through the codec.

Source: AudioLM, arXiv 2209.03143, experiments (WER and CER of regenerated speech).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from segue import audio
from segue.data.items import readable
from segue.errors import SegueError
from segue.evaluate import played, spoken, told
from segue.evaluate.bench import Bench
from segue.evaluate.cases import each, means
from segue.evaluate.fidelity import QUALITY_SECONDS, SIMILARITY, fidelity
from segue.evaluate.generations import seed_of
from segue.evaluate.measures import Figure
from segue.evaluate.players import player
from segue.evaluate.recordings import Recording
from segue.evaluate.section import Column, Player, Section, Table
from segue.evaluate.suite import Context

ORIGINAL, CODEC, REGENERATED = "original", "through the codec", "from its semantic tokens"
LONGEST_SECONDS = 20.0
"""Of a recording that is made again: whole utterances, also where other suites use their beginnings, so that their
transcripts fit."""
LEAST_SECONDS = 1.0
PLAYED = 4
SPEECH = (
    Column(SIMILARITY, "voice: similarity to the original", "neither"),
    Column("distillmos", "DistillMOS", "higher"),
)
TITLES = {
    "words": "words",
    "voice": "speaker similarity",
    "distillmos": "DistillMOS",
    "notes": "notes",
    "tempo": "tempo",
}
OF_SCORER = {"words": told.KEYS, "voice": (SIMILARITY,), "notes": ("pitches", "onsets"), "tempo": ("tempo_kept",)}
PIANO = (
    Column("onsets", "onsets a second", "neither"),
    Column("pitches", "pitch classes: cosine with the original's", "higher"),
    Column("tempo_kept", "tempo is the original's", "higher"),
    Column("timbre", "distance of long-term spectra, nepers", "neither"),
)


@dataclass(frozen=True)
class Again:
    """A recording and what was made of it; waves (n,) of one length.

    Attributes:
        number: among the context's recordings.
        waves: row's name -> wave.
        text: transcript of all of it; None where nobody told.
    """

    number: int
    waves: dict[str, Tensor]
    text: str | None


def run(context: Context) -> Section:
    """Measure acoustic generation.

    Raises:
        SegueError: if no recording is long enough.
    """
    began = time.monotonic()
    context = replace(context, recordings=tuple(_whole(one) for one in context.recordings))
    numbers = [number for number, one in enumerate(context.recordings) if one.seconds >= LEAST_SECONDS]
    if not numbers:
        raise SegueError(f"no recording is {LEAST_SECONDS:g} s long; give longer ones")
    rows = []
    for done, number in enumerate(numbers):
        context.tell("from semantic tokens", done, len(numbers))
        rows.append(_again(context, number))
    context.tell("from semantic tokens", len(numbers), len(numbers))
    found = _speech(context, rows) if context.kind == "speech" else _piano(context, rows)
    return replace(found, players=_players(context, rows), seconds=time.monotonic() - began)


def _whole(recording: Recording) -> Recording:
    """All of it, or its first 20 s."""
    return replace(recording, seconds=min(audio.duration_seconds(readable(recording.sound)), LONGEST_SECONDS))


def _again(context: Context, number: int) -> Again:
    bundle, recording = context.bundle, context.recordings[number]
    rate = bundle.sample_rate
    wave = recording.wave(rate)
    key = {
        "bundle": bundle.fingerprint,
        "recording": recording.identity,
        "samples": len(wave),
        **bundle.manner.told(),
    }

    seed = seed_of(recording, context.seed)

    def regenerated() -> Tensor:
        with torch.inference_mode():
            made = bundle.acoustic_generation(wave, rate, seed=seed).run()
        return made.wave[0, : made.samples[0]]

    waves = {
        ORIGINAL: wave,
        CODEC: context.cache.wave(key | {"made": "reconstruction"}, rate, lambda: bundle.reconstruct(wave)),
        REGENERATED: context.cache.wave(key | {"made": "acoustic", "seed": seed}, rate, regenerated),
    }
    return Again(number, waves, told.transcript(recording))


def _speech(context: Context, rows: Sequence[Again]) -> Section:
    bench = Bench(("words", "voice", "distillmos"), "speech", context.bundle.sample_rate, context.cache)
    groups = [context.groups[row.number] for row in rows]

    def measured(row: Again) -> dict[str, dict[str, Any]]:
        original = row.waves[ORIGINAL]
        heard = told.listen(bench, original, row.waves, row.text)
        found: dict[str, dict[str, Any]] = {}
        for name, wave in row.waves.items():
            scores = fidelity(bench, original, wave)
            found[name] = {"heard": heard[name], **scores}
        return found

    values = each(context, "words, voices and quality", rows, measured)
    table: dict[str, dict[str, Any]] = {}
    details: dict[str, Any] = {}
    for name in (ORIGINAL, CODEC, REGENERATED):
        mine = [one[name] for one in values]
        table[name] = told.figures([one["heard"] for one in mine], groups, context.seed)
        table[name] |= _means(context, groups, mine, SPEECH)
        if name == ORIGINAL:  # compared with itself
            table[name][SIMILARITY] = None
        details[name] = [_plain(context, row, one) for row, one in zip(rows, mine, strict=True)]
    known = sum(row.text is not None for row in rows)
    notes = [
        f"{known} of {len(rows)} recordings have a transcript in the manifest; WER and CER against it are of those.",
        "Against what is heard in the original all are measured; the recogniser's own errors count as right there.",
        "Noise makes a recogniser invent words, so that rates may be above 1.",
    ]
    not_measured = spoken.not_measured(bench, TITLES, OF_SCORER)
    if not known:
        no_text = 'no transcript; tell it in a manifest.jsonl: {"path": ..., "text": ...}'
        not_measured = {"wer": no_text, "cer": no_text} | not_measured
    return Section(
        suite="acoustic",
        title="Acoustic generation",
        about=_about(rows, groups)
        + " The voice is free: a low similarity is as it should be, the codec's is the most. "
        f"DistillMOS of {QUALITY_SECONDS:g} s.",
        tables=(Table("acoustic", "Made again from semantic tokens", (*told.COLUMNS, *SPEECH), table),),
        notes=(*notes, *bench.notes(TITLES)),
        details=details,
        versions=bench.versions,
        not_measured=not_measured,
    )


def _piano(context: Context, rows: Sequence[Again]) -> Section:
    bench = Bench(played.SCORERS, "piano", context.bundle.sample_rate, context.cache)
    groups = [context.groups[row.number] for row in rows]

    def measured(row: Again) -> dict[str, dict[str, Any]]:
        statistics = {name: played.playing(context, bench, wave) for name, wave in row.waves.items()}
        original = statistics[ORIGINAL]
        return {
            name: {
                "onsets": one.onsets,
                "pitches": played.cosine(one.pitches, original.pitches),
                "tempo_kept": played.same_tempo(one.tempo, original.tempo),
                "timbre": float(played.distances(one, original)[3]),
            }
            for name, one in statistics.items()
        }

    values = each(context, "notes and timbre", rows, measured)
    table: dict[str, dict[str, Any]] = {}
    details: dict[str, Any] = {}
    for name in (ORIGINAL, CODEC, REGENERATED):
        mine = [one[name] for one in values]
        table[name] = _means(context, groups, mine, PIANO)
        if name == ORIGINAL:  # compared with itself
            table[name] = {"onsets": table[name]["onsets"]}
        details[name] = [_plain(context, row, one) for row, one in zip(rows, mine, strict=True)]
    return Section(
        suite="acoustic",
        title="Acoustic generation",
        about=_about(rows, groups) + " Words, voices and DistillMOS are only for speech.",
        tables=(Table("acoustic", "Made again from semantic tokens", PIANO, table),),
        notes=tuple(bench.notes(TITLES)),
        details=details,
        versions=bench.versions,
        not_measured=spoken.not_measured(bench, TITLES, OF_SCORER),
    )


def _means(
    context: Context, groups: Sequence[int], values: Sequence[dict[str, Any]], columns: Sequence[Column]
) -> dict[str, Figure | None]:
    table = {column.key: [spoken.number(one.get(column.key)) for one in values] for column in columns}
    return means(context, groups, table)


def _plain(context: Context, row: Again, values: dict[str, Any]) -> dict[str, Any]:
    found = {"recording": context.recordings[row.number].item.id, **values}
    heard = found.pop("heard", None)
    if heard is not None:
        found |= {"heard": heard.text, "by_transcript": heard.by_transcript, "by_original": heard.by_original}
    return found


def _about(rows: Sequence[Again], groups: Sequence[int]) -> str:
    return (
        f"{len(rows)} recordings, at most {LONGEST_SECONDS:g} s of each, made again from their own semantic tokens "
        f"with no acoustic prompt. The original isn't compared with itself. "
        f"Intervals: 95 %, by bootstrap over {len(set(groups))} groups."
    )


def _players(context: Context, rows: Sequence[Again]) -> tuple[Player, ...]:
    return tuple(
        player(context, f"acoustic-{row.number:04d}-{place}", name, context.recordings[row.number].item.id, wave)
        for row in rows[:PLAYED]
        for place, (name, wave) in enumerate(row.waves.items())
    )
