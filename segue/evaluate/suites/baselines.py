"""The suite `baselines`: the full system beside those that leave one kind of tokens out, by one set of measures.

`acoustic-only` goes on with codes alone: it keeps the voice, but nothing plans what is said. `semantic-only` goes on
from semantic tokens alone: what is said holds together, but the voice is lost. The recordings' own continuations
through the codec stand beside them as the best that a system over these codes could do.

Words are counted where a system is told what to say: the recording's own semantic tokens after the prompt, whose words
are then listened for. It asks what a system makes of semantic tokens; acoustic-only is given none, so its errors are
those of a system that must guess.

Source: AudioLM, arXiv 2209.03143, experiments (both baselines).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from segue.errors import SegueError
from segue.evaluate import played, spoken, told
from segue.evaluate.bench import Bench
from segue.evaluate.cases import ANCHOR, Case, anchors, cases, each
from segue.evaluate.generations import seed_of
from segue.evaluate.section import Column, Section, Table
from segue.evaluate.suite import Context
from segue.generate.continuation import SYSTEMS, Generation, System, tokenize_prompt
from segue.generate.options import settings_of

SPEECH = ("similarity", "nearer_random", "nearer_all", "speaker_accuracy", "distillmos", "dnsmos")
SOUND = ("level_db", "collapsed", "repeated", "frechet")
WORDS = (
    replace(told.COLUMNS[2], title="WER, told what to say"),
    replace(told.COLUMNS[3], title="CER, told what to say"),
)
NEARER = tuple(replace(one, title=f"nearer to the true continuation: {one.title}") for one in played.NEARER)

SAID = (
    "Told what to say, a system gets the recording's own semantic tokens after the prompt, and what a recogniser hears "
    "in what it makes of them is compared with what it hears in the recording; acoustic-only takes no such tokens and "
    "must guess. Noise makes a recogniser invent words, so that rates may be above 1."
)


def run(context: Context) -> Section:
    """Measure the three systems and the anchor.

    Raises:
        SegueError: if no recording is long enough.
    """
    began = time.monotonic()
    speech = context.kind == "speech"
    scorers = (*spoken.SCORERS, "words") if speech else played.SCORERS
    bench = Bench(scorers, context.kind, context.bundle.sample_rate, context.cache)
    found: dict[str, dict[str, Any]] = {}
    details: dict[str, Any] = {}
    full = cases(context)
    if not full:
        raise SegueError(f"no recording has {context.prompt_seconds:g} s of prompt and 2 s to go on; give longer ones")
    cannot: dict[str, str] = {}
    for system in SYSTEMS:
        try:
            rows = full if system == "full" else cases(context, system)
        except SegueError as error:  # a bundle needn't be able to leave tokens out
            cannot[system], found[system] = f"this bundle can't: {error}", {}
            continue
        found[system], details[system] = _measured(context, bench, rows, system)
    found[ANCHOR], details[ANCHOR] = _measured(context, bench, anchors(full), ANCHOR)
    if speech:
        cannot |= spoken.unnamed(full, {"speaker_accuracy": [row["speaker_accuracy"] for row in details[ANCHOR]]})
    else:
        cannot |= played.unnamed(full)
    if speech:
        _add_words(context, bench, full, found, details)
    columns: tuple[Column, ...] = (*spoken.columns(*SPEECH), *WORDS) if speech else NEARER
    anchored = spoken.columns(*SOUND) if speech else (*played.TIMBRE, *spoken.columns(*SOUND))
    titles = spoken.TITLES | {"words": "words"} if speech else played.TITLES
    of_scorer: dict[str, tuple[str, ...]] = (
        spoken.OF_SCORER | {"words": ("wer_heard", "cer_heard")} if speech else played.OF_SCORER
    )
    about = (
        f"{len(full)} recordings, {context.prompt_seconds:g} s of each gone on with by each system. The recording's "
        "own continuation isn't compared with itself. Intervals: 95 %, by bootstrap over"
        f" {len({row.group for row in full})} groups. {spoken.DEFINITIONS}"
    )
    return Section(
        suite="baselines",
        title="Baselines",
        about=f"{about} {SAID if speech else played.ABOUT}",
        tables=(Table("baselines", "Three systems and the codec", (*columns, *anchored), found),),
        notes=tuple(bench.notes(titles)),
        details=details,
        versions=bench.versions,
        not_measured=cannot | spoken.not_measured(bench, titles, of_scorer),
        seconds=time.monotonic() - began,
    )


def _measured(context: Context, bench: Bench, rows: Sequence[Case], name: str) -> tuple[dict[str, Any], list[Any]]:
    values = spoken.heard(context, rows, name)
    if context.kind == "speech":
        values |= spoken.spoken(context, bench, rows, name)
    else:
        values |= played.played(context, bench, rows, name)
        if name == ANCHOR:  # what is compared with itself is not measured
            values = {key: column for key, column in values.items() if not key.startswith("nearer")}
    return spoken.figures(context, rows, values), spoken.details(rows, values)


def _add_words(
    context: Context,
    bench: Bench,
    rows: Sequence[Case],
    found: dict[str, dict[str, Any]],
    details: dict[str, Any],
) -> None:
    """Errors of each system when it is told what to say, and of the codec."""
    if "words" in bench.missing:
        return
    rate, cut = context.bundle.sample_rate, len(rows[0].prompt)
    able = [system for system in SYSTEMS if system in details]

    def heard(row: Case) -> dict[str, told.Heard]:
        original = context.recordings[row.number].wave(rate)[cut:][: len(row.truth)]
        waves: dict[str, Tensor] = {system: _said_again(context, row, system) for system in able}
        return told.listen(bench, original, {**waves, ANCHOR: row.truth}, None)

    all_heard = each(context, "words, told what to say", rows, heard)
    groups = [row.group for row in rows]
    for name in (*able, ANCHOR):
        mine = [one[name] for one in all_heard]
        figures = told.figures(mine, groups, context.seed)
        found[name] |= {key: figures[key] for key in ("wer_heard", "cer_heard")}
        for place, one in enumerate(mine):
            details[name][place]["heard"] = one.text


def _said_again(context: Context, row: Case, system: System) -> Tensor:
    """What a system makes of the prompt and the recording's own semantic tokens after it: (m,)."""
    bundle, rate = context.bundle, context.bundle.sample_rate
    seed = seed_of(context.recordings[row.number], context.seed)
    key = {
        "bundle": bundle.fingerprint,
        "recording": row.name,
        "made": "said again",
        "system": system,
        "seed": seed,
        "prompt_seconds": context.prompt_seconds,
        "samples": len(row.truth),
        **bundle.manner.told(),
    }

    def make() -> Tensor:
        cut = len(row.prompt)
        rest = context.recordings[row.number].wave(rate)[cut:][: len(row.truth)]
        with torch.inference_mode():
            prompt = tokenize_prompt(bundle.models, *bundle.both_rates(row.prompt, rate))
            content = tokenize_prompt(bundle.models, *bundle.both_rates(rest, rate)).semantic
            seconds = content.shape[0] / bundle.semantic.frame_rate
            settings = settings_of({"seed": seed, "system": system}, bundle.manner)
            made = Generation(bundle.models, prompt, seconds, settings, content).run()
        return made.wave[0, cut : made.samples[0]]

    return context.cache.wave(key, rate, make)
