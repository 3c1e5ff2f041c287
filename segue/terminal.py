"""How the command line shows long work: one console on standard error, bars that are fed by callbacks, and
the lines of standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from segue.errors import SegueError
from segue.train.logs import Event

SLOW_READING = 0.05
"""Share of the time spent waiting for batches from which on it is told."""

err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
"""Prints text as it is: brackets in the name of a file are brackets."""


def say(text: str) -> None:
    """A line on standard output.

    Raises:
        SegueError: if it can't be written, for the disk is full or nobody reads any more.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left can't be written either
        raise SegueError(f"standard output can't be written ({error.strerror or error})") from error


class _Bars(Progress):
    """Bars, each with a line of figures below it where there are any."""

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            yield self.make_tasks_table([task])
            if task.fields.get("figures"):
                yield Text(f"  {task.fields['figures']}", no_wrap=True, overflow="ellipsis")


def bars(quiet: bool = False) -> Progress:
    """Progress bars on standard error; none where there is no terminal, or `quiet`."""
    name, note = TextColumn("{task.description:16}"), TextColumn("{task.fields[note]}")
    columns = (name, BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(), note)
    return _Bars(*columns, console=err, disable=quiet or not err.is_terminal)


def stage_bars(progress: Progress) -> Callable[[str, int, int], None]:
    """A bar for each stage that tells of its frames."""
    tasks: dict[str, TaskID] = {}

    def told(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = progress.add_task(stage, total=total, note="")
        progress.update(tasks[stage], completed=done, total=total)

    return told


def count_bar(progress: Progress, name: str, unit: str = "files") -> Callable[[int, int], None]:
    """A bar of files done, or of something else."""
    tasks: list[TaskID] = []

    def told(done: int, total: int) -> None:
        if not tasks:
            tasks.append(progress.add_task(name, total=total, note=unit))
        progress.update(tasks[0], completed=done, total=total)

    return told


def train_bar(progress: Progress, name: str) -> Callable[[Event], None]:
    """A bar of steps with losses, speed and time left; without a terminal, a line each validation."""
    tasks: list[TaskID] = []
    losses: dict[str, float] = {}

    def told(event: Event) -> None:
        if not tasks:
            tasks.append(progress.add_task(name, total=event.steps, completed=event.step - 1, note=""))
        if event.losses:
            losses["loss" if event.kind == "train" else "held out"] = event.losses["loss"]
        figures = "  ".join([*(f"{kind} {value:.3f}" for kind, value in losses.items()), *_speed(event.speed)])
        if event.kind != "checkpoint":
            progress.update(tasks[0], completed=event.step, figures=figures)
        if event.kind == "valid" and not err.is_terminal:
            left = (event.steps - event.step) * event.speed.get("step_seconds", 0.0)
            times = f"{timedelta(seconds=round(event.seconds))} done, {timedelta(seconds=round(left))} left"
            err.print(f"{name}: step {event.step}/{event.steps}  {figures}  {times}")

    return told


def _speed(figures: dict[str, float]) -> list[str]:
    """Figures of segue.train.throughput in words."""
    words = []
    if "tokens_per_second" in figures:
        words.append(f"{figures['tokens_per_second']:,.0f} tokens/s")
    if "audio_seconds_per_second" in figures:
        words.append(f"{figures['audio_seconds_per_second']:.1f} s of sound/s")
    if "gflop_per_second" in figures:
        words.append(f"{figures['gflop_per_second']:,.1f} GFLOP/s ({figures['peak_share']:.0%} of peak)")
    if figures.get("waiting", 0.0) > SLOW_READING:
        words.append(f"{figures['waiting']:.0%} waiting for data")
    return words
