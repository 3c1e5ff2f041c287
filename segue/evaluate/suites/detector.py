"""Can a small network tell continuations from recordings? Both sides through the codec, nobody in training and test.

The detector is segue.safety.detector's; it is trained on this bundle's continuations of these very recordings and
judged by cross-validation over speakers. The one that is kept in `detector/` was trained on all of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from segue.artifact import save_part
from segue.errors import SegueError
from segue.evaluate.generations import continuations
from segue.evaluate.measures import Figure, bootstrap
from segue.evaluate.section import Column, Section, Table
from segue.evaluate.suite import Context
from segue.safety.detector import DetectorConfig, pieces_of, train
from segue.safety.validation import Heard, accuracy, area, cross_validated, equal_error_rate, halves, scores_of

CONFIG = DetectorConfig()
FOLDER = "detector"
"""Of the artifact, in the report's folder."""
LENGTHS = (1, 2, 3)
"""Pieces that are heard together."""
CONTROL_DEALS = 3
"""Of the control, told together: one deal alone is right or wrong by luck more often than its interval says."""
FEWEST_GROUPS = 5
"""Below, training sets are too small and too alike for a figure."""
ABOUT = (
    "A small convolutional network is trained to tell how recordings go on from how the bundle goes on with them, "
    "after the same prompts. Both are decoded from the codec's codes, so the codec alone is no clue, and both are "
    "equally long and many; 0.5 is chance. Whoever is heard in training is not heard in the test; intervals are drawn"
    " over speakers (recordings where those aren't told). The paper's detector was right in 98.6 % of its cases. A "
    "high figure says that this bundle's continuations differ in ways that a network can learn, be it sound or "
    "rhythm, and that a detector can be made for them; it doesn't say that people hear the difference, nor that this "
    "detector recognises sound of other models, after other codecs, microphones or edits. A low one says that this "
    "network, on so little sound, found nothing. The control deals each recording's own pieces into two halves, three"
    " times over: nothing there can be learned, so it must be at chance, or the test itself is flawed."
)
_COLUMNS = (
    Column("accuracy", "accuracy", "neither", 3),
    Column("area", "area under ROC", "neither", 3),
    Column("equal_error_rate", "equal error rate", "neither", 3),
    Column("stretches", "stretches", "neither", 0),
)


def run(context: Context) -> Section:
    """Accuracy of a detector of this bundle's continuations, and of one that has nothing to detect.

    Args:
        context: of the evaluation.

    Raises:
        SegueError: if a continuation can't be made.
    """
    began = time.perf_counter()
    real: list[Tensor] = []
    made: list[Tensor] = []
    groups: list[int] = []
    names: list[str] = []
    short = 0
    for one in continuations(context):
        rate = context.bundle.sample_rate
        try:
            sides = [pieces_of(wave, rate, CONFIG) for wave in (one.truth, one.wave)]
        except SegueError:
            short += 1
            continue
        count = min(map(len, sides))
        real.append(sides[0][:count])
        made.append(sides[1][:count])
        groups.append(one.recording.group)
        names.append(one.recording.item.id)
    section = partial(Section, "detector", "Detector", ABOUT)
    if len(set(groups)) < FEWEST_GROUPS:
        reason = f"{len(set(groups))} speakers or recordings; at least {FEWEST_GROUPS} are needed; give more"
        return section(not_measured={"accuracy of a detector": reason}, seconds=time.perf_counter() - began)
    key = {
        "of": "detector",
        "bundle": context.bundle.fingerprint,
        "recordings": names,
        "pieces": list(map(len, real)),
        "prompt_seconds": context.prompt_seconds,
        "seconds": context.seconds,
        **context.bundle.manner.told(),
        "seed": context.seed,
        "detector": asdict(CONFIG),
    }
    heard = _kept(context, key, real, made, groups, "detector")
    control = []
    for deal in range(CONTROL_DEALS):
        dealt = halves(real, context.seed + deal)
        control += _kept(context, key | {"control": deal}, *dealt, groups, f"control {deal + 1}")
    rows: dict[str, dict[str, Figure | None]] = {}
    for length in LENGTHS:
        rows[f"{length * CONFIG.piece_seconds:g} s"] = _row(heard, length, context.seed)
    rows["whole continuation"] = _row(heard, None, context.seed)
    rows["control: real against real, 1 piece"] = _row(control, 1, context.seed)
    rows["control: real against real, half a recording"] = _row(control, None, context.seed)
    detector = train(real, made, CONFIG, context.seed)
    shown = rows["whole continuation"]["accuracy"]
    card = {
        "bundle": context.bundle.name,
        "bundle_fingerprint": context.bundle.fingerprint,
        "recordings": len(real),
        "groups": len(set(groups)),
        "pieces_a_side": sum(map(len, real)),
        "seed": context.seed,
        "cross_validated_accuracy": round(_value(shown), 4),
        "licence": "derived from the recordings; see theirs",
    }
    save_part(detector.to_part(card, {"codec": context.bundle.codec.fingerprint}), context.out / FOLDER)
    tossed = rows["control: real against real, 1 piece"]
    luck = 1 / math.sqrt(max(1.0, _value(tossed["stretches"])))
    notes = [
        f"The control's labels are tossed like coins: by luck alone its accuracy a piece lies between {0.5 - luck:.3f} "
        f"and {0.5 + luck:.3f} (two standard errors); found {_value(tossed['accuracy']):.3f}."
    ]
    notes.append(f"The detector trained on all {len(real)} recordings is kept in {FOLDER}/.")
    if short:
        notes.append(f"{short} recordings go on for less than {CONFIG.piece_seconds:g} s after the prompt: left out.")
    return section(
        (Table("detector", "Real against continued, both through the codec", _COLUMNS, rows),),
        notes=tuple(notes),
        details={"recordings": len(real), "groups": len(set(groups)), "folds": min(5, len(set(groups)))} | card,
        seconds=time.perf_counter() - began,
    )


def _kept(
    context: Context, key: Any, real: list[Tensor], made: list[Tensor], groups: list[int], what: str
) -> list[Heard]:
    """Cross-validated logits, made once."""

    def make() -> list[Any]:
        told = partial(context.tell, what)
        heard = cross_validated(real, made, groups, CONFIG, context.seed, told)
        return [[one.real.tolist(), one.made.tolist()] for one in heard]

    found = context.cache.value(key, make)
    return [Heard(np.asarray(a), np.asarray(b), group) for (a, b), group in zip(found, groups, strict=True)]


def _row(heard: list[Heard], pieces: int | None, seed: int) -> dict[str, Figure | None]:
    scores, labels, groups = scores_of(heard, pieces)
    measures = {"accuracy": accuracy, "area": area, "equal_error_rate": equal_error_rate}
    row: dict[str, Figure | None] = {"stretches": Figure(float(len(scores)))}
    for name, measure in measures.items():
        row[name] = bootstrap(range(len(scores)), groups, _of(measure, scores, labels), seed) if len(scores) else None
    return row


def _value(figure: Figure | None) -> float:
    return math.nan if figure is None else figure.value


def _of(
    measure: Callable[[np.ndarray, np.ndarray], float], scores: np.ndarray, labels: np.ndarray
) -> Callable[[np.ndarray], float]:
    return lambda rows: measure(scores[rows], labels[rows])
