"""The suite `tokens`: what semantic tokens and codec codes hold, of the content, of the speaker and of the sound.

The paper's table of roles (semantic tokens tell phones apart and lose the voice; codes keep the sound and blur the
phones), the sweep over the encoder's layers, what a cut does to the tokens before it, and the speed of encoding.

Recordings -> one plain dict, ready for JSON. What can't be measured is None, and `not_measured` says why.
Source: AudioLM, arXiv 2209.03143, table I; see segue.evaluate.abx for ABX.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from segue.bundle import Bundle
from segue.errors import SegueError
from segue.evaluate import measures, notes, packages
from segue.evaluate.abx import Items, Mode, abx
from segue.evaluate.bench import Bench
from segue.evaluate.fidelity import SIMILARITY, fidelity
from segue.evaluate.phones import SAMPLE_RATE, PhoneAligner, Span
from segue.evaluate.recordings import Recording, choose
from segue.evaluate.representations import (
    Encoded,
    Representation,
    Tokenizer,
    encode,
    frame_labels,
    has_bundles_tokens,
    middles,
    roles,
    segments,
    sweep,
)
from segue.semantic.kmeans import evened, fit, nearest

Labels = Literal["phones", "pitch", "chord"]
SUITE = "tokens"
PIECE_SECONDS = 4.0
CUT_SECONDS = 3.0
NEAR_SECONDS = 0.4
UNITS = 100
_MOST_KINDS = 40
_SEGMENTS_EACH = 3
_PACKAGES = ("segue", "torch", "numpy", "scikit-learn")
Keep = Callable[[Any, Callable[[], Any]], Any]
"""Gives back what was made before under a key, as JSON has it, and makes it otherwise."""


@dataclass(frozen=True)
class Options:
    """What is asked of the suite.

    Attributes:
        labels: what is told apart: phones of speech, or pitches or chords of rendered piano.
        limit: recordings.
        seconds: of each, at most.
        resynthesised: recordings whose sound is made again and scored; 0 measures no quality.
        resynthesis_seconds: of each of those.
        seed: of every draw.
    """

    labels: Labels = "phones"
    limit: int = 60
    seconds: float = 20.0
    resynthesised: int = 6
    resynthesis_seconds: float = 4.0
    seed: int = 0


def run(
    bundle: Bundle,
    semantic: Tokenizer,
    places: Sequence[Path],
    options: Options = Options(),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    keep: Keep = lambda key, make: make(),
) -> dict[str, Any]:
    """Measure a bundle's tokens, or those of another semantic tokenizer beside the bundle's codec.

    Args:
        bundle: codec and stages.
        semantic: tokenizer that is measured.
        places: folders, tar shards and manifests of held-out recordings whose speakers are known.
        options: what is asked.
        on_progress: told steps done and steps in all.
        keep: where labels and scores, which take longest, are kept.

    Raises:
        SegueError: if fewer than two speakers are known, or no recording has labels.
    """
    chosen = choose(places, options.limit, options.seconds, options.seed)
    versions = packages.versions(_PACKAGES)
    not_measured: dict[str, str] = {}
    label = _labeller(options.labels, versions, not_measured, keep)
    rows = roles(semantic, bundle.codec, bundle.stages.coarse.stage.target.num_codebooks)
    layers = len(semantic.activations(chosen[0].wave(semantic.sample_rate)))
    total, done = len(chosen) + len(rows) + layers + min(options.resynthesised, len(chosen)), 0

    def step() -> None:
        nonlocal done
        done += 1
        on_progress(done, total)

    encoded, unlabelled = [], 0
    for recording in chosen:
        try:
            spans = label(recording)
        except SegueError as error:
            spans, unlabelled = [], unlabelled + 1
            reason = str(error).removeprefix(f"{recording.item}: ")
            not_measured.setdefault("labels", f"{recording.item.id}: {reason}")
        encoded.append(encode(recording, spans, semantic, bundle.codec))
        step()
    labelled, names = _commonest(encoded)
    result: dict[str, Any] = {
        "suite": SUITE,
        "bundle": {"name": bundle.name, "fingerprint": bundle.fingerprint},
        "semantic": {"fingerprint": semantic.fingerprint, "vocab_size": semantic.vocab_size},
        "data": {
            "places": ["/".join(place.resolve().parts[-2:]) for place in places],
            "recordings": len(encoded),
            "seconds": round(sum(one.recording.seconds for one in encoded), 1),
            "speakers": len({one.recording.speaker for one in encoded}),
            "labels": options.labels,
            "labelled_spans": sum(len(one.spans) for one in labelled),
            "kinds": len(names),
            "without_labels": unlabelled,
        },
        "seed": options.seed,
    }
    table = []
    for row in rows:
        told = _discrimination(row, labelled, names, options, with_segments=True)
        table.append({"name": row.name, "frame_rate": row.frame_rate, **told})
        step()
    for place, row in zip(table[1:], rows[1:], strict=True):
        place |= _of_units(row, encoded, labelled, names, semantic, bundle, options, not_measured)
    result["roles"] = table
    result["layers"] = []
    for row in sweep(semantic, layers):
        result["layers"].append({"name": row.name, **_discrimination(row, labelled, names, options, False)})
        step()
    result["drift"] = _drift(encoded, semantic)
    seconds = sum(one.recording.seconds for one in encoded)
    result["speed"] = {
        "semantic_times_real_time": round(seconds / sum(one.semantic_seconds for one in encoded), 1),
        "codec_times_real_time": round(seconds / sum(one.codec_seconds for one in encoded), 1),
        "threads": torch.get_num_threads(),
    }
    _add_quality(table, bundle, semantic, chosen[:], options, versions, not_measured, step, keep)
    return _rounded(result | {"versions": versions, "not_measured": not_measured})


def _labeller(
    kind: Labels, versions: dict[str, str], missing: dict[str, str], keep: Keep
) -> Callable[[Recording], list[Span]]:
    """What names the spans of a recording; one that names none where its package is missing."""
    if kind == "phones":
        try:
            aligner = PhoneAligner()
        except SegueError as error:
            missing["phones"] = str(error)
            return lambda recording: []
        versions |= aligner.versions

        def of_phones(recording: Recording) -> list[Span]:
            text = recording.item.facts.get("text")
            about = {"phones": _named(recording), "text": text, "versions": aligner.versions}
            made = keep(about, lambda: [[*vars(span).values()] for span in aligner(recording.wave(SAMPLE_RATE), text)])
            return [Span(*span) for span in made]

        return of_phones

    def of_notes(recording: Recording) -> list[Span]:
        if recording.notes is None:
            raise SegueError(f"{recording.item}: no MIDI file of its name beside it")
        found = notes.spans(recording.notes, kind)
        versions.update(notes.versions())
        return [span for span in found if span.end_seconds <= recording.seconds]

    return of_notes


def _commonest(encoded: Sequence[Encoded]) -> tuple[list[Encoded], list[str]]:
    """Recordings with the spans of the commonest kinds alone, and the names of those."""
    counted = Counter(span.label for one in encoded for span in one.spans)
    names = sorted(name for name, _ in counted.most_common(_MOST_KINDS))
    kept = [
        Encoded(**{**vars(one), "spans": [span for span in one.spans if span.label in names]})
        for one in encoded
        if one.spans
    ]
    return kept, names


def _discrimination(
    row: Representation, labelled: list[Encoded], names: list[str], options: Options, with_segments: bool
) -> dict[str, Any]:
    """ABX errors of one representation, of frames and of whole spans."""
    if not labelled:
        return {}
    labels = torch.tensor([names.index(span.label) for one in labelled for span in one.spans])
    numbers = {name: place for place, name in enumerate(sorted({one.recording.speaker for one in labelled}))}
    speakers = torch.tensor([numbers[one.recording.speaker] for one in labelled for _ in one.spans])
    frames = Items(middles(row, labelled), labels, speakers)
    found: dict[str, Any] = {}
    modes: tuple[Mode, ...] = ("within", "across")
    for mode in modes:
        found[f"abx_{mode}"] = vars(abx(frames, mode, options.seed))
    if with_segments:
        spans = Items(segments(row, labelled), labels, speakers)
        for mode in modes:
            found[f"abx_spans_{mode}"] = vars(abx(spans, mode, options.seed, _SEGMENTS_EACH))
    found["pnmi_100_units"] = _with_units(row, labelled, names, options.seed)
    return found


def _with_units(row: Representation, labelled: list[Encoded], names: list[str], seed: int) -> float | None:
    """Phone-normalised information of 100 units fitted to these very recordings, so that all have equally many."""
    features = torch.cat([row.features(one).float() for one in labelled])
    rates = [(one, len(row.features(one))) for one in labelled]
    labels = torch.cat([frame_labels(one, names, row.frame_rate, frames) for one, frames in rates])
    known = labels >= 0
    if int(known.sum()) < UNITS or not packages.installed("scikit-learn"):
        return None
    clusters = fit(lambda k: features, 1, UNITS, seed, passes=5)
    units = nearest(evened(features, clusters.mean, clusters.std, angular=False), clusters.centroids)
    return measures.normalised_information(measures.counts(units[known], labels[known]))


def _of_units(
    row: Representation,
    encoded: list[Encoded],
    labelled: list[Encoded],
    names: list[str],
    semantic: Tokenizer,
    bundle: Bundle,
    options: Options,
    missing: dict[str, str],
) -> dict[str, Any]:
    """What the tokens or codes themselves tell of kinds and speakers; of one codebook's units, kinds alone."""
    found: dict[str, Any] = {}
    count = int(row.name.split()[1]) if row.name.startswith("codes") else 1

    def units(one: Encoded) -> Tensor:
        return one.codes[:count] if row.name.startswith("codes") else one.tokens[None]

    size = bundle.codec.codebook_size if row.name.startswith("codes") else semantic.vocab_size
    if count == 1:
        if labelled:
            pairs = [(units(one)[0], frame_labels(one, names, row.frame_rate, units(one).shape[1])) for one in labelled]
            tokens, labels = (torch.cat(column) for column in zip(*pairs, strict=True))
            table = measures.counts(tokens[labels >= 0], labels[labels >= 0])
            found |= {"purity": measures.purity(table), "pnmi": measures.normalised_information(table)}
        speakers = [torch.full((units(one).shape[1],), one.recording.speaker) for one in encoded]
        every = measures.counts(torch.cat([units(one)[0] for one in encoded]), torch.cat(speakers))
        found |= {"speaker_information_nats": measures.information(every), "perplexity": _perplexity(every)}
    try:
        told = measures.speaker_accuracy(
            [units(one) for one in encoded],
            [one.recording.speaker for one in encoded],
            size,
            round(PIECE_SECONDS * row.frame_rate),
            options.seed,
        )
        about = {"chance": told.chance, "speakers": told.speakers, "pieces": told.pieces}
        found["speaker_accuracy"] = vars(told.accuracy) | about
    except SegueError as error:
        missing["speaker_accuracy"] = str(error)
    return found


def _perplexity(table: Tensor) -> float:
    return math.exp(measures.entropy(table.sum(1)))


def _drift(encoded: Sequence[Encoded], semantic: Tokenizer) -> dict[str, Any]:
    """How many tokens of the first 3 s stay what they are when nothing follows."""
    cut, near = (round(seconds * semantic.frame_rate) for seconds in (CUT_SECONDS, NEAR_SECONDS))
    pairs = []
    for one in encoded:
        if len(one.tokens) >= 2 * cut:
            part = semantic.encode(one.recording.wave(semantic.sample_rate)[None, : cut * semantic.hop_length])[0]
            pairs.append(measures.agreement(one.tokens, part, near))
    close, away = (float(np.mean(column)) for column in zip(*pairs, strict=True)) if pairs else (math.nan, math.nan)
    told = {"cut_seconds": CUT_SECONDS, "near_seconds": NEAR_SECONDS, "recordings": len(pairs)}
    return {**told, "equal_near": close, "equal_away": away}


def _add_quality(
    table: list[dict[str, Any]],
    bundle: Bundle,
    semantic: Tokenizer,
    chosen: list[Recording],
    options: Options,
    versions: dict[str, str],
    missing: dict[str, str],
    step: Callable[[], None],
    keep: Keep,
) -> None:
    """Make each sound again from its codes, and from its semantic tokens alone, and score both."""
    if options.resynthesised < 1:
        return
    speech = options.labels == "phones"
    scorers = ("pesq", "visqol", "voice") if speech else ("visqol",)
    bench = Bench(scorers, "speech" if speech else "piano", bundle.codec.sample_rate)
    bench.ready()
    versions |= bench.versions
    missing |= {SIMILARITY if name == "voice" else name: why for name, why in bench.missing.items()}
    rows = {row["name"]: row for row in table}
    counts = {name: int(name.split()[1]) for name in rows if name.startswith("codes")}
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
    if not has_bundles_tokens(bundle, semantic):
        missing["quality of semantic tokens"] = "the bundle's stages were trained on other tokens than these"
    every = max(1, len(chosen) // options.resynthesised)
    for number, recording in enumerate(chosen[::every][: options.resynthesised]):
        length = round(min(options.resynthesis_seconds, recording.seconds) * bundle.codec.sample_rate)
        whole = recording.wave(bundle.codec.sample_rate)
        start = max(0, len(whole) - length) // 2  # the middle: recordings like to begin with silence
        wave = whole[start : start + length]

        def scored(wave: Tensor = wave, seed: int = options.seed + number) -> dict[str, dict[str, float]]:
            codes, length = bundle.codec.encode(wave[None])[0], len(wave)
            made = {name: bundle.codec.decode(codes[None, :count])[0, :length] for name, count in counts.items()}
            if has_bundles_tokens(bundle, semantic):
                spoken = bundle.acoustic_generation(wave.numpy(), bundle.sample_rate, seed=seed).run()
                made["semantic tokens"] = spoken.wave[0, :length]
            return {name: fidelity(bench, wave, again) for name, again in made.items()}

        about = {"bundle": bundle.fingerprint, "semantic": semantic.fingerprint, "recording": _named(recording)}
        settings = {"seed": options.seed + number, "seconds": options.resynthesis_seconds, "versions": versions}
        for name, own in keep(about | settings | {"of": "resynthesis"}, scored).items():
            scores[name].append({key: math.nan if score is None else score for key, score in own.items()})
        step()
    for name, own in scores.items():
        if own:
            rows[name]["quality"] = {key: _mean([one[key] for one in own]) for key in own[0]}
            rows[name]["quality"]["recordings"] = len(own)


def _mean(values: Sequence[float]) -> float:
    """Of those that are numbers; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _named(recording: Recording) -> list[Any]:
    return [recording.identity, recording.seconds]


def _rounded(value: Any) -> Any:
    """Plain JSON: figures of four digits after the point, None for what is no number."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
