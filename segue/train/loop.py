"""The one training loop: codec, semantic encoder and language models all go through it.

It owns time: batches by step number, learning rate, validation, guards, checkpoints, resume and the log. What a
step does is the business of a `Training` (codec.py, semantic.py, lm.py in this folder).

Batch and random numbers of step k are functions of (seed, k) alone, so that a run that was killed goes on exactly
as if it had not been.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from segue.artifact import Part, read_json, written_file
from segue.errors import SegueError
from segue.train import state
from segue.train.guard import Guard

READERS = 4
"""Batches read ahead, each by a thread of its own."""

_FREE_TO_CHANGE = ("steps", "cooldown_fraction", "validate_every", "checkpoint_every")


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast.

    Attributes:
        steps: optimiser steps.
        batch_size: crops a step.
        crop_seconds: length of a crop.
        learning_rate: after warm-up.
        warmup_steps: of linear rise from zero.
        cooldown_fraction: share of the steps, at the end, over which the rate falls linearly to zero.
        weight_decay: AdamW's.
        gradient_clip: greatest norm of the gradient.
        ema_decay: of the weights' moving average that is exported; 0 keeps none.
        seed: of batches and of all randomness.
        validate_every: steps.
        validate_batches: batches of held-out data each time.
        checkpoint_every: steps.
    """

    steps: int = 1000
    batch_size: int = 8
    crop_seconds: float = 1.28
    learning_rate: float = 5e-4
    warmup_steps: int = 100
    cooldown_fraction: float = 0.2
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.0
    seed: int = 0
    validate_every: int = 500
    validate_batches: int = 4
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every", "validate_batches", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise SegueError(f"train.{name} {getattr(self, name)}: at least 1")
        for name in ("crop_seconds", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise SegueError(f"train.{name} {getattr(self, name)}: a number above 0")
        for name in ("warmup_steps", "weight_decay", "gradient_clip", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SegueError(f"train.{name} {getattr(self, name)}: a number from 0 on")
        if not 0 <= self.cooldown_fraction <= 1 or not 0 <= self.ema_decay < 1:
            raise SegueError(
                f"train.cooldown_fraction {self.cooldown_fraction}, train.ema_decay {self.ema_decay}: from 0 to 1, "
                "the decay below 1"
            )


class Training(Protocol):
    """What one part's training offers to the loop."""

    def prepare(self, batches: Callable[[int], Any]) -> None:
        """Before step 0 of a fresh run: whatever must be measured on data; `batches(k)` gives batch k."""

    def step(self, batch: Any, rng: torch.Generator, learning_rate: float) -> dict[str, float]:
        """One optimiser step; losses by name, `loss` first."""

    def validate(self, batch: Any, rng: torch.Generator) -> dict[str, float]:
        """Losses on held-out data, `loss` first."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that `step` changes, as nested dicts and lists of tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a `state_dict`."""

    def export(self, card: dict[str, Any]) -> Part:
        """The trained part."""


@dataclass(frozen=True)
class Event:
    """One line of the log, handed to whoever watches.

    Attributes:
        step: steps done.
        steps: steps to do.
        kind: `train`, `valid` or `checkpoint`.
        losses: by name.
        seconds: of training so far, over all resumptions.
    """

    step: int
    steps: int
    kind: str
    losses: dict[str, float]
    seconds: float


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Linear warm-up, a plateau, linear cool-down: the rate for step `step`."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cooldown_steps = max(1, round(config.cooldown_fraction * config.steps))
    cool = min(1.0, (config.steps - step) / cooldown_steps)
    return config.learning_rate * warm * cool


def generator(seed: int, step: int, stream: int) -> torch.Generator:
    """The random numbers of one step; `stream` tells training from validation."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 4 + stream)


def run(
    training: Training,
    batches: Callable[[int], Any],
    valid_batches: Callable[[int], Any] | None,
    config: TrainConfig,
    folder: Path,
    describe: dict[str, Any],
    on_event: Callable[[Event], None] = lambda event: None,
) -> float:
    """Train until `config.steps`, from the newest checkpoint in `folder` if there is one.

    Args:
        training: the part.
        batches: step -> batch.
        valid_batches: the same for held-out data; None trains without validation.
        config: how long and how fast.
        folder: of checkpoints, `config.json` and `log.jsonl`.
        describe: the whole resolved config, kept beside the checkpoints; a folder made with another is refused.
        on_event: told of each step, validation and checkpoint.

    Returns:
        seconds spent in training, over all resumptions.

    Raises:
        SegueError: if the folder belongs to another config, a loss is not finite or runs away, or it can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, describe)
    step, spent = 0, 0.0
    found = state.load_newest(folder)
    if found is None:
        training.prepare(batches)
    else:
        step, kept = found
        training.load_state_dict(kept["training"])
        spent = kept["seconds"]
    log = _Log(folder / "log.jsonl", step)
    began = time.monotonic() - spent
    saved, guard = step, Guard()
    with ThreadPoolExecutor(max_workers=READERS) as readers:
        ahead = deque(readers.submit(batches, step + index) for index in range(READERS))
        try:
            while step < config.steps:
                batch = ahead.popleft().result()
                ahead.append(readers.submit(batches, step + READERS))
                rate = learning_rate_at(step, config)
                losses = training.step(batch, generator(config.seed, step, 0), rate)
                guard.check(losses, step)
                step += 1
                event = Event(step, config.steps, "train", losses, time.monotonic() - began)
                if step % 20 == 0 or step == config.steps:
                    log.write(event)
                on_event(event)
                if valid_batches and (step % config.validate_every == 0 or step == config.steps):
                    event = _validate(training, valid_batches, config, step, time.monotonic() - began)
                    log.write(event)
                    on_event(event)
                if step % config.checkpoint_every == 0 or step == config.steps:
                    saved = _checkpoint(training, folder, step, time.monotonic() - began)
                    on_event(Event(step, config.steps, "checkpoint", {}, time.monotonic() - began))
        except KeyboardInterrupt:
            if step > saved:
                _checkpoint(training, folder, step, time.monotonic() - began)
            raise
    return time.monotonic() - began


def _validate(
    training: Training, batches: Callable[[int], Any], config: TrainConfig, step: int, seconds: float
) -> Event:
    sums: dict[str, float] = {}
    for index in range(config.validate_batches):
        for name, value in training.validate(batches(index), generator(config.seed, index, 1)).items():
            sums[name] = sums.get(name, 0.0) + value / config.validate_batches
    return Event(step, config.steps, "valid", sums, seconds)


def _checkpoint(training: Training, folder: Path, step: int, seconds: float) -> int:
    state.save(folder, step, {"training": training.state_dict(), "seconds": seconds})
    return step


def _claim(folder: Path, describe: dict[str, Any]) -> None:
    """Keep the resolved config beside the run; refuse to mix two."""
    path = folder / "config.json"
    if path.exists():
        before = read_json(path, "training run")
        for key in sorted(set(_flat(before)) | set(_flat(describe))):
            was, now = _flat(before).get(key), _flat(describe).get(key)
            if was != now and key.split(".")[-1] not in _FREE_TO_CHANGE:
                raise SegueError(f"{folder}: this run was started with {key}={was}, now {now}; use another --out")
    with written_file(path) as beside:
        beside.write_text(json.dumps(describe, indent=2) + "\n")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


class _Log:
    """`log.jsonl`: a line each twenty steps and each validation; lines past the resumed step are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        with written_file(path) as beside:
            beside.write_text("".join(line + "\n" for line in kept))

    def write(self, event: Event) -> None:
        rounded = {name: round(value, 5) for name, value in event.losses.items()}
        line = {"step": event.step, "kind": event.kind, "seconds": round(event.seconds, 1), **rounded}
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
