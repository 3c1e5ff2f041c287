"""The one training loop: codec, semantic encoder and language models all go through it, on one device or on many.

It owns time: batches by step number, learning rate, validation, guards, checkpoints, resume and the log. What a
step does is the business of a `Training` (codec.py, semantic.py, lm.py in this folder); where it does it, of its
`World` (fabric.py). Every process runs this loop and takes its own rows of each batch; the first one writes.

Batch and random numbers of step k are functions of (seed, k) alone, so that a run that was killed goes on exactly
as if it had not been, and with another number of processes as if it had had them from the beginning.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from segue.artifact import Part, read_json, written_file
from segue.config import later
from segue.data.lock import locked
from segue.errors import SegueError
from segue.train import interrupt, logs, state
from segue.train.fabric import World
from segue.train.guard import DivergedError, Guard
from segue.train.logs import Event
from segue.train.patience import Patience
from segue.train.reader import Batches, Reader
from segue.train.throughput import Throughput

__all__ = ["Event", "Spent", "TrainConfig", "Training", "generator", "learning_rate_at", "run"]

_FREE_TO_CHANGE = (
    "steps",
    "cooldown_fraction",
    "validate_every",
    "checkpoint_every",
    "log_every",
    "accumulate",
    "checkpoints_kept",
    "patience",
)


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast.

    Attributes:
        steps: optimiser steps.
        batch_size: crops a step, over all processes.
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
        log_every: steps.
        accumulate: parts that a process works its rows through in, to save memory.
        checkpoints_kept: the last so many.
        patience: validations in a row without a new lowest held-out loss that end the training, which then keeps the
            weights of the lowest, as it does at its last step; 0 keeps the last ones, however they do. In a run that
            began without, counted from where it was given.
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
    log_every: int = later(20)
    accumulate: int = later(1)
    checkpoints_kept: int = later(2)
    patience: int = later(0)

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "validate_every", "validate_batches", "checkpoint_every", "log_every")
        for name in (*counts, "accumulate", "checkpoints_kept"):
            if getattr(self, name) < 1:
                raise SegueError(f"train.{name} {getattr(self, name)}: at least 1")
        for name in ("crop_seconds", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise SegueError(f"train.{name} {getattr(self, name)}: a number above 0")
        for name in ("warmup_steps", "weight_decay", "gradient_clip", "seed", "patience"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SegueError(f"train.{name} {getattr(self, name)}: a number from 0 on")
        if not 0 <= self.cooldown_fraction <= 1 or not 0 <= self.ema_decay < 1:
            raise SegueError(
                f"train.cooldown_fraction {self.cooldown_fraction}, train.ema_decay {self.ema_decay}: from 0 to 1, "
                "the decay below 1"
            )


@dataclass(frozen=True)
class Spent:
    """What a training took.

    Attributes:
        seconds: of training, over all resumptions.
        steps: after which the weights are those that it ends with.
    """

    seconds: float
    steps: int


class Training(Protocol):
    """What one part's training offers to the loop.

    Attributes:
        unit: what its data is counted in: `tokens` or `audio_seconds`.
        world: where it trains.
    """

    unit: str
    world: World

    def prepare(self, batches: Callable[[int], Any]) -> None:
        """Before step 0 of a fresh run: whatever must be measured on data; `batches(k)` gives the whole batch k."""

    def amount(self, batch: Any) -> tuple[float, float]:
        """How much data is in a batch, in the unit, and how much it is with padding."""

    def step(self, batch: Any, rng: torch.Generator, learning_rate: float) -> dict[str, float]:
        """One optimiser step on the own rows; losses of the whole batch by name, `loss` first."""

    def validate(self, batch: Any, rng: torch.Generator) -> dict[str, float]:
        """Losses on held-out data, `loss` first."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that `step` changes, as nested dicts and lists of whole tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a `state_dict`."""

    def export(self, card: dict[str, Any]) -> Part:
        """The trained part."""


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
    batches: Batches,
    valid_batches: Batches | None,
    config: TrainConfig,
    folder: Path,
    describe: dict[str, Any],
    on_event: Callable[[Event], None] = lambda event: None,
    wandb: str | None = None,
) -> Spent:
    """Train until `config.steps` or the end of patience, from the newest checkpoint in `folder` if there is one.

    Asked to stop by Ctrl-C or SIGTERM, it ends the step, leaves a checkpoint and raises KeyboardInterrupt.

    Args:
        training: the part.
        batches: step -> batch.
        valid_batches: the same for held-out data; None trains without validation.
        config: how long and how fast.
        folder: of checkpoints, `config.json` and the logs.
        describe: the whole resolved config, kept beside the checkpoints; a folder made with another is refused.
        on_event: told of each step, validation and checkpoint, in the first process.
        wandb: project of Weights & Biases to log to as well.

    Returns:
        what it took; the training has the weights to keep.

    Raises:
        SegueError: if the folder belongs to another config, a loss is not finite or runs away, it can't be written,
            another run has it, the processes can't share a batch evenly, or patience has no held-out data to go by.
    """
    world = training.world
    if config.patience and valid_batches is None:
        raise SegueError(f"train.patience {config.patience}: no held-out data to go by; name some with --valid")
    rows = world.rows(config.batch_size, config.accumulate)
    with _alone_in(folder, world):
        _claim(folder, describe, world)
        return _steps(training, batches, valid_batches, rows, config, folder, describe, on_event, wandb)


def _steps(
    training: Training,
    batches: Batches,
    valid_batches: Batches | None,
    rows: slice,
    config: TrainConfig,
    folder: Path,
    describe: dict[str, Any],
    on_event: Callable[[Event], None],
    wandb: str | None,
) -> Spent:
    """All steps of `run` from the newest checkpoint on."""
    world = training.world
    step, spent, patience = 0, 0.0, Patience(config.patience)
    found = state.load_newest(folder)
    if found is None:
        training.prepare(batches)
    else:
        step, kept = found
        training.load_state_dict(kept["training"])
        spent = kept["seconds"]
        lowest_step = kept["patience"]["lowest_step"]
        if lowest_step is None or state.is_there(folder, lowest_step):  # else a later one, lost since, was lower
            patience.load_state_dict(kept["patience"])
    world.barrier()
    with (
        Reader(batches, rows, step) as reader,
        _Teller(config.steps, spent, on_event) as teller,
        interrupt.noticed() as asked_to_stop,
    ):
        if world.is_first:
            teller.open(folder, step, describe, wandb)
        guard, speed = Guard(), Throughput(training)
        while step < config.steps and not patience.is_over:
            batch, rate = reader.next(), learning_rate_at(step, config)
            if speed.uncounted and step % config.log_every == 0:
                speed.count(batch, generator(config.seed, step, 0), rate)
            with speed.timed():
                losses = training.step(batch, generator(config.seed, step, 0), rate)
            try:
                guard.check(losses, step)
            except DivergedError as error:
                teller.tell("stopped", step + 1, {}, note=str(error))  # past every checkpoint: resuming drops it
                raise
            step += 1
            stop, *amount = world.sums(float(asked_to_stop()), *training.amount(batch))
            speed.add(losses, reader.waited, *amount)
            last, lowest = step == config.steps, False
            teller.tell("train", step, losses, speed.figures(), keep=last or step % config.log_every == 0)
            if valid_batches and (last or step % config.validate_every == 0):
                held = _validate(training, valid_batches, rows, config)
                teller.tell("valid", step, held, speed.figures())
                lowest = patience.is_lowest(step, held["loss"])
            if patience.is_over:
                last = True
                teller.tell("ended", step, {}, note=patience.note)
            if last or stop or lowest or step % config.checkpoint_every == 0:
                _checkpoint(training, folder, step, teller.seconds, config.checkpoints_kept, patience)
                teller.tell("checkpoint", step, {}, keep=False)
            if stop and not last:
                raise KeyboardInterrupt
        if world.sums(float(asked_to_stop()))[0]:  # in the last step: what follows a training is not to begin
            raise KeyboardInterrupt
        if patience.lowest_step not in (None, step):
            step = patience.lowest_step
            training.load_state_dict(state.load(folder, step)["training"])
        return Spent(teller.seconds, step)


class _Teller:
    """Tells of what happens: whoever watches of everything, the log of some of it; says nothing until opened."""

    def __init__(self, steps: int, spent: float, on_event: Callable[[Event], None]) -> None:
        self._steps, self._on_event = steps, on_event
        self._began = time.monotonic() - spent
        self._open = ExitStack()
        self._logs: list[logs.Log] | None = None

    def __enter__(self) -> _Teller:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def open(self, folder: Path, step: int, describe: dict[str, Any], wandb: str | None) -> None:
        """Be the one that speaks for all processes."""
        self._logs = self._open.enter_context(logs.opened(folder, step, describe, wandb))

    @property
    def seconds(self) -> float:
        """Of training so far, over all resumptions."""
        return time.monotonic() - self._began

    def tell(
        self,
        kind: str,
        step: int,
        losses: dict[str, float],
        speed: dict[str, float] | None = None,
        keep: bool = True,
        note: str = "",
    ) -> None:
        """Tell of an event; `keep` it in the log."""
        if self._logs is None:
            return
        event = Event(step, self._steps, kind, losses, self.seconds, speed or {}, note)
        for log in self._logs if keep else []:
            log.write(event)
        self._on_event(event)


def _validate(training: Training, batches: Batches, rows: slice, config: TrainConfig) -> dict[str, float]:
    sums: dict[str, float] = {}
    for index in range(config.validate_batches):
        for name, value in training.validate(batches(index, rows), generator(config.seed, index, 1)).items():
            sums[name] = sums.get(name, 0.0) + value / config.validate_batches
    return sums


def _checkpoint(training: Training, folder: Path, step: int, seconds: float, keep: int, patience: Patience) -> None:
    kept = {"training": training.state_dict(), "seconds": seconds, "patience": patience.state_dict()}
    if training.world.is_first:
        state.save(folder, step, kept, keep, patience.lowest_step)
    training.world.barrier()


@contextmanager
def _alone_in(folder: Path, world: World) -> Iterator[None]:
    """The folder of a run is this run's alone; all processes learn it if it is not."""
    with ExitStack() as held:
        error = None
        if world.is_first:
            try:
                held.enter_context(locked(folder))
            except SegueError as refused:
                error = refused
        if world.sums(float(error is not None))[0]:
            raise error or SegueError(f"{folder}: another run is writing there; wait for it or give another folder")
        yield


def _claim(folder: Path, describe: dict[str, Any], world: World) -> None:
    """Keep the resolved config beside the run; refuse to mix two."""
    path, now = folder / "config.json", _flat(describe)
    if path.exists():
        before = _flat(read_json(path, "training run"))
        for key in sorted(before.keys() | now.keys()):
            was, wanted = before.get(key), now.get(key)
            if was != wanted and key.split(".")[-1] not in _FREE_TO_CHANGE:
                raise SegueError(f"{folder}: this run was started with {key}={was}, now {wanted}; use another --out")
    world.barrier()
    if world.is_first:
        for unfinished in filter(Path.is_file, folder.glob(".*.part")):  # of a run that was killed as it wrote
            unfinished.unlink()
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
