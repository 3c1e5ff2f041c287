"""Learning curves: read from a run's `log.jsonl`, how fast they still fall, and how they stand beside the reference.

The references are the curves of the bundled parts, which the recipe `tiny` made: one codec, and speech and piano of
everything else. A curve is (steps, losses), each (n,).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segue.bundle import BUNDLED, bundled_names
from segue.doctor.findings import Figure, Finding, first_of
from segue.errors import SegueError
from segue.train.logs import complete_lines

FALLING = 0.003
"""A fall of the held-out loss over a tenth of the steps from which on more training pays: at this pace as much again
gains 3 %. Cooling down speeds the fall first and ends it then, so that a pace is an order of size and no forecast."""
RISING = 0.005
"""A rise of the held-out loss over a tenth of the steps that is no noise: the batches held out are always the same."""
DIVERGED = 1.2
"""Training loss at the end above so many times its least: it has lost what it had learnt."""
AHEAD, BEHIND, FAR_BEHIND = 0.98, 1.05, 1.25
"""Loss over the reference's at equal steps. Seeds differ by one or two in a hundred; speech and piano by ten to twenty,
so what is above the worse of both by five is not the data; by 25 is where the references were in their first steps."""
_NOT_LOSSES = ("step", "kind", "seconds", "speed", "note", "gradient", "gradient_norm")


@dataclass(frozen=True)
class Log:
    """A `log.jsonl`, by kinds of line.

    Attributes:
        train: lines of training steps.
        valid: lines of validations.
        stopped: the line that says why the run was stopped, if it was and is its last.
    """

    train: list[dict[str, Any]] = field(default_factory=list)
    valid: list[dict[str, Any]] = field(default_factory=list)
    stopped: dict[str, Any] | None = None

    @property
    def steps(self) -> int:
        """Steps logged."""
        return max((line["step"] for line in (*self.train, *self.valid)), default=0)

    def is_lowest(self, step: int) -> bool:
        """Whether the held-out loss was lowest after so many steps, as far as it is logged."""
        at, losses = self.curve("loss")
        return bool(np.any(losses[at == step] == losses.min())) if len(at) else False

    def curve(self, name: str, held_out: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """A loss over the steps, where it is a finite number."""
        lines = [line for line in (self.valid if held_out else self.train) if math.isfinite(line.get(name, math.nan))]
        return np.array([line["step"] for line in lines]), np.array([float(line[name]) for line in lines])


def read_log(path: Path) -> Log:
    """A run's log; lines that a kill cut short are passed over.

    Raises:
        SegueError: if it is missing.
    """
    if not path.is_file():
        raise SegueError(f"{path}: no such log, so this is no run; give the folder of segue train")
    lines = complete_lines(path)
    kinds = {kind: [line for line in lines if line["kind"] == kind] for kind in ("train", "valid")}
    stopped = lines[-1] if lines and lines[-1]["kind"] == "stopped" else None
    return Log(kinds["train"], kinds["valid"], stopped)


def references(part: str) -> dict[str, Log]:
    """The bundled curves of a part (`codec`, `semantic`, `coarse stage`): name -> log."""
    if part == "codec":
        places = {"codec": BUNDLED / "codec"}
    else:
        places = {name: BUNDLED / name / part.replace(" ", "_") for name in bundled_names()}
    return {name: read_log(place / "log.jsonl") for name, place in places.items() if (place / "log.jsonl").is_file()}


def fall_of(log: Log, steps: int) -> float | None:
    """Share by which the held-out loss fell over a tenth of `steps`, at its end; negative where it rose.

    The slope of the points in the last third of the steps and of the one before; None of fewer than two points.
    """
    at, losses = log.curve("loss")
    if len(at) < 2:
        at, losses = smoothed(*log.curve("loss", held_out=False))
    if len(at) < 2:
        return None
    first = max(0, min(int(np.searchsorted(at, at[-1] - steps / 3)) - 1, len(at) - 2))
    slope = np.polyfit(at[first:], losses[first:], 1)[0]
    return float(-slope * steps / 10 / abs(losses[first:].mean()))


def smoothed(at: np.ndarray, losses: np.ndarray, bins: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """A training curve as means of stretches of it."""
    groups = np.array_split(np.arange(len(at)), min(bins, len(at))) if len(at) else []
    means = [(float(at[group].mean()), float(losses[group].mean())) for group in groups]
    return np.array([step for step, _ in means]), np.array([loss for _, loss in means])


def curve_finding(
    part: str, log: Log, steps: int, epoch_steps: float | None = None, kept_step: int | None = None
) -> Finding:
    """Whether a part's loss still falls.

    Args:
        part: the finding's.
        log: its curves.
        steps: that the run was to take.
        epoch_steps: steps in which it goes over its data once, if that is known.
        kept_step: whose weights are the part's, where that need not be the last.
    """
    subject, fall = f"{part}: learning curve", fall_of(log, steps)
    _, train = smoothed(*log.curve("loss", held_out=False))
    if fall is None or not len(train):
        return Finding(
            subject, "warn", {"steps": log.steps}, "too short a log to say whether it still falls", "train on"
        )
    _, held_losses = log.curve("loss")
    figures: dict[str, Figure] = {"steps": log.steps, "fall_a_tenth": fall}
    if len(held_losses):
        figures |= {"held_out_loss": float(held_losses[-1]), "least_held_out": float(held_losses.min())}
    unit, pace = "a tenth of its steps", fall
    if epoch_steps and epoch_steps <= steps / 2:
        unit, pace = "an epoch", fall * epoch_steps * 10 / steps
        figures["fall_an_epoch"] = pace
    if train.min() > 0 and train[-1] > DIVERGED * train.min():
        meaning = f"diverging: its training loss is {train[-1] / train.min():.1f} times its least"
        return Finding(subject, "bad", figures, meaning, "lower train.learning_rate and go on from a checkpoint before")
    if kept_step is not None and kept_step < log.steps and log.is_lowest(kept_step) and fall < FALLING:
        figures["kept_step"] = kept_step
        return Finding(subject, "ok", figures, f"lowest at step {kept_step}, whose weights are kept")
    if fall < -RISING:
        meaning = f"its held-out loss rises {-fall:.1%} a tenth of its steps: it learns its data by heart"
        return Finding(subject, "warn", figures, meaning, "add data, or keep its lowest (--set train.patience=5)")
    if fall >= FALLING:
        meaning = f"still falling {pace:.1%} {unit}"
        return Finding(subject, "warn", figures, meaning, f"train longer: --set train.steps={2 * steps}")
    return Finding(subject, "ok", figures, f"its held-out loss has settled ({pace:.1%} {unit})")


def reference_finding(part: str, log: Log, differs: Sequence[str], others: Mapping[str, Log]) -> Finding | None:
    """How a run stands beside the reference at equal steps; None where they have no steps in common.

    Args:
        part: the finding's.
        log: of the run.
        differs: settings in which the run's recipe is not that of the reference.
        others: the references.
    """
    ratios: dict[str, tuple[float, float]] = {}
    names = [name for name in (log.valid or [{}])[-1] if name not in _NOT_LOSSES and "perplexity" not in name]
    for name in (name for name in names if "accuracy" not in name):
        against = [found for other in others.values() if (found := _beside(log.curve(name), other.curve(name)))]
        if against:
            ratios[name] = (min(against), max(against))
    if "loss" not in ratios:
        return None
    low, high = ratios["loss"]  # over the worse reference, over the better
    best = min(others, key=lambda name: abs(math.log(_beside(log.curve("loss"), others[name].curve("loss")) or 9.9)))
    figures: dict[str, Figure] = {"over_worse_reference": low, "over_better_reference": high, "nearest": best}
    step = _reached(log, others[best])
    if step is not None:
        figures |= {"at_step": log.steps, "reference_was_there_at_step": step}
    behind = [f"{name}: {ratio:.2f} times the reference" for name, (ratio, _) in ratios.items() if ratio > BEHIND]
    note = f"; its recipe differs in {', '.join(differs[:4])}{' ...' if len(differs) > 4 else ''}" if differs else ""
    subject = f"{part}: reference"
    if low > BEHIND:
        far = low > FAR_BEHIND and not differs
        meaning = (
            f"{'far ' if low > FAR_BEHIND else ''}behind the reference: {low:.2f} times its loss at equal steps{note}"
        )
        remedy = "compare data and settings with the recipe's; look at the losses listed"
        return Finding(subject, "bad" if far else "warn", figures, meaning, remedy, first_of(behind))
    state = "ahead of" if high < AHEAD else "with"
    meaning = f"{state} the reference: {low:.2f} to {high:.2f} times its loss at equal steps{note}"
    if behind:
        return Finding(subject, "warn", figures, f"{meaning}, but not in every loss", "look at those", first_of(behind))
    return Finding(subject, "ok", figures, meaning)


def _beside(curve: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float | None:
    """Loss over the other's at equal steps, the mean of the last three common ones; None where there are none."""
    if not len(curve[0]) or not len(other[0]):
        return None
    common = (curve[0] >= other[0][0]) & (curve[0] <= other[0][-1])
    at, losses = curve[0][common][-3:], curve[1][common][-3:]
    if not len(at):
        return None
    beside = np.interp(at, *other)
    return float(np.mean(losses / beside)) if (beside > 0).all() else None


def _reached(log: Log, other: Log) -> int | None:
    """The step at which the reference's loss was what the run's is now; None where it never was."""
    (_, losses), (at, beside) = log.curve("loss"), other.curve("loss")
    below = np.flatnonzero(beside <= losses[-1])
    return int(at[below[0]]) if len(below) else None
