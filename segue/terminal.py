"""How the command line shows long work: one console on standard error, and bars that are fed by callbacks."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from segue.train.loop import Event

err = Console(stderr=True, highlight=False, soft_wrap=True)


def bars(quiet: bool = False) -> Progress:
    """Progress bars on standard error; none where there is no terminal, or `quiet`."""
    columns = (TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[note]}"), console=err, disable=quiet or not err.is_terminal)


def stage_bars(progress: Progress) -> Callable[[str, int, int], None]:
    """A bar for each stage that tells of its frames."""
    tasks: dict[str, TaskID] = {}

    def told(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = progress.add_task(stage, total=total, note="")
        progress.update(tasks[stage], completed=done, total=total)

    return told


def count_bar(progress: Progress, name: str) -> Callable[[int, int], None]:
    """A bar of files done."""
    tasks: list[TaskID] = []

    def told(done: int, total: int) -> None:
        if not tasks:
            tasks.append(progress.add_task(name, total=total, note="files"))
        progress.update(tasks[0], completed=done, total=total)

    return told


def train_bar(progress: Progress, name: str) -> Callable[[Event], None]:
    """A bar of steps with the losses; without a terminal, a line each validation."""
    tasks: list[TaskID] = []
    losses = {"train": float("nan"), "valid": float("nan")}

    def told(event: Event) -> None:
        if not tasks:
            tasks.append(progress.add_task(name, total=event.steps, note=""))
        if event.losses:
            losses[event.kind] = event.losses["loss"]
        note = f"loss {losses['train']:.3f}  held out {losses['valid']:.3f}"
        progress.update(tasks[0], completed=event.step, note=note)
        if event.kind == "valid" and not err.is_terminal:
            err.print(f"{name}: step {event.step}/{event.steps}, {note}, {event.seconds:.0f} s")

    return told
