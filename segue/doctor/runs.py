"""Findings on the folder of a run of `segue train`: its log, its checkpoints, and the reference's curves beside it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segue import recipes
from segue.artifact import ARTIFACT, read_json
from segue.config import from_dict, to_disk
from segue.doctor.curves import Log, curve_finding, read_log, reference_finding, references
from segue.doctor.estimate import kind_of
from segue.doctor.findings import Figure, Finding, Findings
from segue.errors import SegueError
from segue.recipes import CodecRecipe, ParallelRecipe, SemanticRecipe, StageRecipe
from segue.train import state

SPIKE, GRADIENT_SPIKE = 1.5, 10.0
"""Over the median of the eleven logged steps around it. Batches differ by some ten in a hundred in their loss and by a
factor of two or three in the gradient's norm; beyond these, one step has undone others."""
SPIKES_WARN = 0.02
"""Share of the logged steps that may be spikes: one in fifty costs little, for the clip holds each one down."""
WAITING_WARN = 0.05
"""Share of the time spent on waiting for batches: more than a twentieth is a loader in the way."""
PADDING_WARN = 0.2
"""Share of the batches that is padding: what is worked through for nothing."""
PEAK_LEAST = 0.1
"""Share of a matrix product's speed. A CPU reaches 0.3 to 0.8; below a tenth, something else takes the time."""
_AROUND = 11


@dataclass(frozen=True)
class Run:
    """A run's folder.

    Attributes:
        folder: of it.
        part: `codec`, `semantic`, `coarse stage`, `parallel decoder`, ...
        recipe: of the part.
        requires: fingerprints of the tokenizers, for a stage.
        num_coarse: codebooks of the coarse stage, for a stage.
        log: its curves.
    """

    folder: Path
    part: str
    recipe: CodecRecipe | SemanticRecipe | StageRecipe | ParallelRecipe
    requires: dict[str, str]
    num_coarse: int
    log: Log

    @property
    def kind(self) -> str:
        """`codec`, `semantic`, `stage` or `parallel`."""
        return kind_of(self.part)

    @property
    def is_finished(self) -> bool:
        """Whether its artifact is there."""
        return (self.folder / ARTIFACT / "part.json").is_file()


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return (folder / "config.json").is_file() and (folder / "log.jsonl").is_file()


def read_run(folder: Path) -> Run:
    """A run, from its folder.

    Raises:
        SegueError: if it was not made by `segue train`.
    """
    told = read_json(folder / "config.json", "training run")
    values = told.get("recipe")
    if not isinstance(values, dict):
        raise SegueError(f"{folder / 'config.json'}: holds no recipe, so this is no run of segue train; check the path")
    part = str(told.get("part") or ("codec" if "objective" in values else "semantic"))
    kinds: dict[str, Any] = {
        "codec": CodecRecipe,
        "semantic": SemanticRecipe,
        "stage": StageRecipe,
        "parallel": ParallelRecipe,
    }
    recipe = from_dict(kinds[kind_of(part)], values)
    requires = told.get("requires", {})
    return Run(folder, part, recipe, requires, int(told.get("num_coarse", 0)), read_log(folder / "log.jsonl"))


def findings_on_run(run: Run) -> Findings:
    """What a run's folder tells by itself."""
    train, log = run.recipe.train, run.log
    yield _progress(run)
    yield from _checkpoints(run)
    yield curve_finding(run.part, log, train.steps, _epoch_steps(run), _kept_step(run))
    beside = reference_finding(run.part, log, differences(run), references(run.part))
    if beside is not None:
        yield beside
    yield from spikes(run.part, log)
    yield from _speed(run)


def _progress(run: Run) -> Finding:
    subject, steps, done = f"{run.part}: run", run.recipe.train.steps, run.log.steps
    figures: dict[str, Figure] = {"step": done, "steps": steps}
    if run.log.stopped is not None:
        note = str(run.log.stopped.get("note", "stopped"))
        remedy = "lower train.learning_rate (a new --out), or look at what the loss named is fed with"
        return Finding(subject, "bad", figures, note.split("; the last checkpoint")[0], remedy)
    if run.is_finished:
        return Finding(subject, "ok", figures, f"finished at step {done}")
    return Finding(subject, "ok", figures, f"at step {done} of {steps}", "--resume goes on with it")


def _kept_step(run: Run) -> int | None:
    """After which step the weights are those of the artifact; None where there is none yet."""
    if not run.is_finished:
        return None
    return read_json(run.folder / ARTIFACT / "part.json", "artifact").get("card", {}).get("steps")


def _checkpoints(run: Run) -> Findings:
    subject = f"{run.part}: checkpoints"
    with warnings.catch_warnings(record=True) as passed_over:
        warnings.simplefilter("always")
        try:
            found = state.load_newest(run.folder)
        except SegueError as error:
            yield Finding(subject, "bad", {}, str(error), "take a copy from elsewhere, or train anew")
            return
    if found is None:
        if not run.is_finished:
            yield Finding(subject, "ok", {}, f"none yet; one comes every {run.recipe.train.checkpoint_every} steps")
        return
    figures: dict[str, Figure] = {"newest_step": found[0], "damaged": len(passed_over)}
    if passed_over:
        meaning = f"{len(passed_over)} newer ones are damaged; training would go on from step {found[0]}"
        yield Finding(subject, "warn", figures, meaning, "check the disk", (str(passed_over[0].message),))
    else:
        yield Finding(subject, "ok", figures, f"the newest one, of step {found[0]}, is whole")


def spikes(part: str, log: Log) -> Findings:
    """Jumps of loss and gradient."""
    for name, factor in (("loss", SPIKE), ("gradient", GRADIENT_SPIKE), ("gradient_norm", GRADIENT_SPIKE)):
        at, values = log.curve(name, held_out=False)
        if len(values) < _AROUND:
            continue
        around = np.lib.stride_tricks.sliding_window_view(np.pad(values, _AROUND // 2, mode="edge"), _AROUND)
        high = np.flatnonzero(values > factor * np.median(around, axis=1))
        what = "loss" if name == "loss" else "gradient"
        figures: dict[str, Figure] = {
            "last": float(values[-1]),
            "largest": float(values.max()),
            "spikes": len(high),
            "logged": len(values),
        }
        if len(high) > SPIKES_WARN * len(values):
            steps = ", ".join(str(at[index]) for index in high[:5])
            meaning = f"its {what} jumps at {len(high)} of {len(values)} logged steps, such as {steps}"
            remedy = "lower train.learning_rate, or warm up longer (--set train.warmup_steps=)"
            yield Finding(f"{part}: {what} spikes", "warn", figures, meaning, remedy)
        else:
            yield Finding(f"{part}: {what} spikes", "ok", figures, f"its {what} is steady")


def _speed(run: Run) -> Findings:
    last = [line["speed"] for line in run.log.train[-10:] if "speed" in line]
    if not last:
        return
    figures: dict[str, Figure] = {
        name: float(np.median([speed[name] for speed in last if name in speed])) for name in last[-1]
    }
    troubles, remedies = [], []
    if float(figures.get("waiting", 0)) > WAITING_WARN:
        troubles.append(f"{float(figures['waiting']):.0%} of the time goes to waiting for data")
        remedies.append("put the data on a faster disk, or as WAV or FLAC at the rate of the codec")
    if float(figures.get("padding", 0)) > PADDING_WARN:
        troubles.append(f"{float(figures['padding']):.0%} of the batches is padding")
        remedies.append("use clips longer than a crop, or shorter crops")
    if float(figures.get("peak_share", 1)) < PEAK_LEAST:
        troubles.append(f"it reaches {float(figures['peak_share']):.0%} of a matrix product's speed")
        remedies.append("end other programs; use larger batches")
    per_second = next(
        (f"{value:,.1f} {name.replace('_', ' ')}" for name, value in figures.items() if "second" in name), ""
    )
    share = f", {float(figures['peak_share']):.0%} of a matrix product's speed" if "peak_share" in figures else ""
    verdict = "warn" if troubles else "ok"
    meaning = "; ".join(troubles) or f"{per_second}{share}"
    yield Finding(f"{run.part}: speed", verdict, figures, meaning, "; ".join(remedies))  # type: ignore[arg-type]


def _epoch_steps(run: Run) -> float | None:
    """Steps that go over the data once, if the run is finished and its card tells the hours."""
    path = run.folder / ARTIFACT / "part.json"
    hours = read_json(path, "artifact").get("card", {}).get("hours") if path.is_file() else None
    train = run.recipe.train
    return hours * 3600 / (train.batch_size * train.crop_seconds) if hours else None


def differences(run: Run) -> list[str]:
    """Settings in which a run's recipe is not that of `tiny`, which the references are of; lengths don't count."""
    tiny = recipes.tiny()
    role = run.part.replace(" ", "_") if run.kind == "stage" else run.kind
    theirs = getattr(tiny, role)
    ours, others = _flat(to_disk(run.recipe)), _flat(to_disk(theirs))
    free = (
        "train.steps",
        "train.validate",
        "train.checkpoint_every",
        "train.log_every",
        "train.accumulate",
        "train.checkpoints_kept",
        "train.patience",
        "train.seed",
    )
    keys = [key for key in sorted(ours.keys() | others.keys()) if not key.startswith(free)]
    return [key for key in keys if ours.get(key) != others.get(key)]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: json.dumps(value)}
    return flat
