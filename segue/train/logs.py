"""What a run writes down of itself: `log.jsonl`, TensorBoard's files beside it, and Weights & Biases where asked for.

A resumed run drops what was written past the step it goes on from. Only the first of several processes writes.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from segue.artifact import written_file
from segue.errors import SegueError


@dataclass(frozen=True)
class Event:
    """One line of the log, handed to whoever watches.

    Attributes:
        step: steps done.
        steps: steps to do.
        kind: `train`, `valid`, `checkpoint`, `ended` where patience was at an end, or `stopped` where a guard was.
        losses: by name.
        seconds: of training so far, over all resumptions.
        speed: figures of segue.train.throughput, by name; empty before there are any.
        note: why it ended or was stopped.
    """

    step: int
    steps: int
    kind: str
    losses: dict[str, float]
    seconds: float
    speed: dict[str, float] = field(default_factory=dict)
    note: str = ""


class Log(Protocol):
    """Where events are kept."""

    def write(self, event: Event) -> None:
        """Keep one."""

    def close(self) -> None:
        """Nothing more will come."""


@contextmanager
def opened(folder: Path, step: int, describe: dict[str, Any], wandb: str | None = None) -> Iterator[list[Log]]:
    """The logs of a run that goes on from `step`.

    Args:
        folder: of the run.
        step: steps done; later lines are dropped.
        describe: the run's whole config.
        wandb: project of Weights & Biases; None leaves it out.

    Raises:
        SegueError: if Weights & Biases is wanted and missing, or the folder can't be written.
    """
    logs: list[Log] = [JsonLines(folder / "log.jsonl", step)]
    try:
        if wandb is not None:
            logs.append(Wandb(wandb, folder, describe))
        board = _tensorboard(folder, step)
        logs += [board] if board else []
        yield logs
    finally:
        for log in logs:
            log.close()


def complete_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a `log.jsonl`; those that a kill cut short are passed over."""
    lines = []
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and "step" in line:
            lines.append(line)
    return lines


class JsonLines:
    """`log.jsonl`: a JSON object a line."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = [json.dumps(line) for line in complete_lines(path) if line["step"] <= step] if path.exists() else []
        with written_file(path) as beside:
            beside.write_text("".join(line + "\n" for line in kept))

    def write(self, event: Event) -> None:
        losses = {name: round(value, 5) for name, value in event.losses.items()}
        line = {"step": event.step, "kind": event.kind, "seconds": round(event.seconds, 1), **losses}
        if event.kind == "train" and event.speed:
            line["speed"] = {name: float(f"{value:.4g}") for name, value in event.speed.items()}
        if event.note:
            line["note"] = event.note
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise SegueError(f"{self.path}: can't be written ({error.strerror}); check folder and space") from error

    def close(self) -> None:
        """Each line is on its own."""


class TensorBoard:
    """Curves in `tensorboard/`: `tensorboard --logdir RUN`."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, event: Event) -> None:
        for name, value in _scalars(event).items():
            self._writer.add_scalar(name, value, event.step)

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """A run of Weights & Biases, the same one after each resumption.

    Args:
        project: of Weights & Biases.
        folder: of the run; its name is the run's.
        describe: the run's config.
    """

    def __init__(self, project: str, folder: Path, describe: dict[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise SegueError("--wandb: wandb is not installed; pip install wandb, or leave --wandb out") from error
        place = folder.resolve()
        identity = hashlib.sha256(str(place).encode()).hexdigest()[:16]
        self._run = wandb.init(
            project=project, name=place.name, id=identity, resume="allow", dir=str(place), config=describe
        )

    def write(self, event: Event) -> None:
        self._run.log(_scalars(event), step=event.step)

    def close(self) -> None:
        self._run.finish()


def _tensorboard(folder: Path, step: int) -> TensorBoard | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        warnings.warn(
            'tensorboard is not installed, so only log.jsonl is written; pip install "segue[train]"', stacklevel=2
        )
        return None
    return TensorBoard(SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None))


def _scalars(event: Event) -> dict[str, float]:
    named = {f"{event.kind}/{name}": value for name, value in event.losses.items()}
    return named | ({f"speed/{name}": value for name, value in event.speed.items()} if event.kind == "train" else {})
