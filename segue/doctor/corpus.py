"""Findings on a folder of sound, tar shards or a manifest: how much there is, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segue.data import sources
from segue.data.items import Skipped
from segue.doctor.effort import Effort
from segue.doctor.facts import Told, findings_on_facts
from segue.doctor.findings import Figure, Finding, Findings, Verdict, first_of, judged
from segue.doctor.fingerprint import near_duplicates
from segue.doctor.listen import Heardings, listen, same_bytes
from segue.errors import SegueError
from segue.recipes import CodecRecipe, Recipe, SemanticRecipe, StageRecipe

EPOCHS_WARN, EPOCHS_BAD = 16.0, 400.0
"""Times that a training may go over the same sound. Up to some four are worth as much as new data, by sixteen each adds
little, and after forty nothing (Muennighoff et al. 2023, arXiv 2305.16264, on text); at ten times that the sound is
learnt by heart."""
UNREADABLE_BAD = 0.1
"""A few files in a hundred are damaged in any collection; a tenth means that something went wrong in making it."""
CLIPPED_FILE = 1e-4
"""Share of clipped samples that makes a recording a clipped one: more than one in 10,000 can be heard as crackle."""
CLIPPED_WARN, CLIPPED_BAD = 0.02, 0.5
"""Shares of clipped recordings. A codec learns what it hears: in every second one, distortion is the normal case."""
SILENT_WARN, SILENT_BAD = 0.3, 0.7
"""Shares of silence. Speech pauses for a tenth to a quarter of the time; beyond, crops are spent on nothing, and a
stage learns that silence goes on."""
OFFSET_FILE = 0.1
"""A mean of a tenth of the root mean square (-20 dB) is a fault of the recorder, and moves every frame's energy."""
OFFSET_WARN, OFFSET_BAD = 0.05, 1.01
"""Shares of recordings with an offset; it never makes sound useless."""
BAND_WARN, BAND_BAD = 0.2, 1.01
"""Shares of recordings with an empty top band. A fifth is enough for a codec to treat a missing top as a kind of sound;
it is dull, not unusable."""
DOUBLE_WARN, DOUBLE_BAD = 0.01, 0.5
"""Shares of recordings that are there twice: from one in a hundred on, held-out files are likely to be trained on."""
SPEECH_LEAST = 0.05
"""With less speech than this a collection is taken for music or noise."""


def findings_on_sound(places: Sequence[Path], recipe: Recipe, effort: Effort) -> Findings:
    """Look through recordings.

    Args:
        places: folders, tar shards, manifests, sound files.
        recipe: that they would be trained with.
        effort: time for listening and, again, for comparing.

    Raises:
        SegueError: if a place can't be read or there is no recording in it.
    """
    items, left_out = sources.find(places)
    if not items and not left_out:
        raise SegueError(f"{', '.join(map(str, places))}: no sound files in it; give a folder of sound, run or bundle")
    found = listen(items, effort)
    skipped = [*left_out, *found.skipped]
    yield _unreadable(skipped, len(found.items))
    if not found.items:
        return
    yield _length(found, recipe)
    yield _rates(found, recipe.codec.model.sample_rate)
    yield from _heard(found)
    yield _doubles(found, effort)
    told = [
        Told(header.seconds, **{"source": item.folder, **item.facts})
        for item, header in zip(found.items, found.headers, strict=True)
    ]
    yield from findings_on_facts(told)


def _unreadable(skipped: Sequence[Skipped], usable: int) -> Finding:
    figures: dict[str, Figure] = {"files": usable + len(skipped), "unusable": len(skipped)}
    if not skipped:
        return Finding("data: files", "ok", figures, "every file can be read")
    verdict: Verdict = "bad" if len(skipped) >= UNREADABLE_BAD * (usable + len(skipped)) else "warn"
    meaning = f"{len(skipped)} of {usable + len(skipped)} files can't be used, and training and tokenising skip them"
    names = first_of([one.reason if one.path in one.reason else f"{one.path}: {one.reason}" for one in skipped])
    return Finding("data: files", verdict, figures, meaning, "mend, export again or remove them", names)


def _length(found: Heardings, recipe: Recipe) -> Finding:
    lengths = np.array([header.seconds for header in found.headers])
    hours = found.seconds / 3600
    epochs = {name: seen / hours for name, seen in hours_seen(recipe).items()}
    most = max(epochs, key=lambda name: epochs[name])
    figures: dict[str, Figure] = {
        "hours": hours,
        "recordings": len(lengths),
        "median_seconds": float(np.median(lengths)),
        "shortest_seconds": float(lengths.min()),
        "longest_seconds": float(lengths.max()),
        **{f"times_over_{name.replace(' ', '_')}": value for name, value in epochs.items()},
    }
    verdict = judged(epochs[most], EPOCHS_WARN, EPOCHS_BAD)
    if verdict == "ok":
        meaning = f"{hours:.2f} h: enough for the recipe {recipe.name}"
        return Finding("data: length", verdict, figures, meaning)
    meaning = (
        f"{hours:.2f} h: the recipe {recipe.name} goes over it {epochs[most]:,.0f} times ({most}), more than is of use"
    )
    return Finding("data: length", verdict, figures, meaning, "add sound, or train fewer steps (--set ...train.steps=)")


def hours_seen(recipe: Recipe) -> dict[str, float]:
    """Part -> hours of crops that its training draws."""
    parts: dict[str, CodecRecipe | SemanticRecipe | StageRecipe] = {
        "codec": recipe.codec,
        "semantic": recipe.semantic,
        "semantic stage": recipe.semantic_stage,
        "coarse stage": recipe.coarse_stage,
        "fine stage": recipe.fine_stage,
    }
    return {
        name: part.train.steps * part.train.batch_size * part.train.crop_seconds / 3600 for name, part in parts.items()
    }


def _rates(found: Heardings, sample_rate: int) -> Finding:
    rates = Counter(header.sample_rate for header in found.headers)
    channels = Counter(header.channels for header in found.headers)
    figures: dict[str, Figure] = {f"{rate}_hz": count for rate, count in sorted(rates.items())}
    figures |= {f"{count}_channels": number for count, number in sorted(channels.items())}
    low = sum(count for rate, count in rates.items() if rate < sample_rate)
    if low:
        meaning = f"{low} of {len(found.items)} recordings are below {sample_rate} Hz: nothing above half their rate"
        remedy = "take the original recordings, or leave these out"
        return Finding("data: rates", judged(low / len(found.items), 0.0, 0.5), figures, meaning, remedy)
    mixed = "; others are resampled, channels mixed down" if len(rates) > 1 or set(channels) != {1} else ""
    return Finding("data: rates", "ok", figures, f"no recording is below {sample_rate} Hz{mixed}")


def _heard(found: Heardings) -> Findings:
    """Findings on the recordings that were listened to."""
    heard = found.heard
    if not heard:
        return
    seconds = sum(one.seconds for one in heard.values())
    of = {"heard": len(heard), "heard_share": seconds / found.seconds}
    names = {index: str(found.items[index]) for index in heard}
    levels = [one.facts.level_db for one in heard.values()]

    clipped = [i for i, one in heard.items() if one.facts.clipped > CLIPPED_FILE]
    share = len(clipped) / len(heard)
    yield Finding(
        "data: clipping",
        judged(share, CLIPPED_WARN, CLIPPED_BAD),
        {**of, "clipped": share, "median_level_db": float(np.median(levels))},
        f"{share:.0%} of the recordings are clipped" if clipped else "no recording is clipped",
        "record or export these again at a lower level" if share >= CLIPPED_WARN else "",
        first_of([names[i] for i in sorted(clipped, key=lambda i: -heard[i].facts.clipped)]),
    )
    silent = sum(one.facts.silent * one.seconds for one in heard.values()) / seconds
    verdict = judged(silent, SILENT_WARN, SILENT_BAD)
    remedy = "segue tokenize --trim keeps speech only; cut long pauses before training the codec"
    quiet = sorted(
        (i for i, one in heard.items() if one.facts.silent > SILENT_BAD), key=lambda i: -heard[i].facts.silent
    )
    yield Finding(
        "data: silence",
        verdict,
        {**of, "silent": silent},
        f"{silent:.0%} of it is silence",
        remedy if verdict != "ok" else "",
        first_of([names[i] for i in quiet]),
    )
    yield from _speech(found)
    askew = [i for i, one in heard.items() if one.facts.offset > OFFSET_FILE]
    share = len(askew) / len(heard)
    yield Finding(
        "data: offset",
        judged(share, OFFSET_WARN, OFFSET_BAD),
        {**of, "askew": share, "largest": max(one.facts.offset for one in heard.values())},
        f"{share:.0%} of the recordings have a mean far from 0" if askew else "every recording is centred on 0",
        "take the mean off, or filter below 20 Hz" if share >= OFFSET_WARN else "",
        first_of([names[i] for i in askew]),
    )
    rates = {i: min(found.headers[i].sample_rate, 16_000) for i in heard}
    dull = [i for i, one in heard.items() if one.facts.bandwidth_hz < 0.45 * rates[i]]
    share = len(dull) / len(heard)
    edge = float(np.median([heard[i].facts.bandwidth_hz for i in dull])) if dull else 0.0
    meaning = f"{share:.0%} of the recordings hold nothing above {edge / 1000:.1f} kHz or so, as after MP3"
    yield Finding(
        "data: bandwidth",
        judged(share, BAND_WARN, BAND_BAD),
        {**of, "band_limited": share, **({"median_edge_hz": edge} if dull else {})},
        meaning if dull else "every recording fills its band",
        "take uncompressed originals, or keep them few: a codec learns the missing top" if share >= BAND_WARN else "",
        first_of([names[i] for i in dull]),
    )


def _speech(found: Heardings) -> Findings:
    asked = [one for one in found.heard.values() if one.speech_seconds >= 0]
    if not asked:
        return
    speech = sum(one.speech_seconds for one in asked) / sum(one.seconds for one in asked)
    figures: dict[str, Figure] = {"heard": len(asked), "speech": speech}
    meaning = f"{speech:.0%} of it is speech" if speech >= SPEECH_LEAST else "hardly any speech: music or noise"
    remedy = "" if speech >= SPEECH_LEAST else "don't use --trim on it"
    yield Finding("data: speech", "ok", figures, meaning, remedy)


def _doubles(found: Heardings, effort: Effort) -> Finding:
    same = same_bytes(found.items, effort)
    surplus = {str(item) for group in same for item in group[1:]}
    numbers = list(found.heard)
    near = near_duplicates([found.heard[i].words for i in numbers])
    pairs = [(str(found.items[numbers[a]]), str(found.items[numbers[b]]), share) for a, b, share in near]
    alike = {other for one, other, _ in pairs if other not in surplus}
    share = len(surplus) / len(found.items) + len(alike) / max(1, len(numbers))
    verdict = judged(share, DOUBLE_WARN, DOUBLE_BAD)
    lines = [f"{group[0]} = {', '.join(map(str, group[1:]))}" for group in same]
    lines += [f"{one} ~ {other} ({share:.0%})" for one, other, share in pairs if other not in surplus]
    count = len(surplus) + len(alike)
    return Finding(
        "data: duplicates",
        verdict,
        {"same_bytes": len(surplus), "same_sound": len(alike), "compared_by_sound": len(numbers)},
        f"{count} recordings are there more than once" if count else "no recording is there twice",
        "remove the copies, or what is held out will have been trained on" if verdict != "ok" else "",
        first_of(lines),
    )
