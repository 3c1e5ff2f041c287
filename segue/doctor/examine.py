"""What is to be examined, and by which checks: sound, a token store, a run, a bundle, or the machine alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segue.bundle import bundled_names
from segue.data.items import SHARDS
from segue.doctor.corpus import findings_on_sound
from segue.doctor.effort import Effort
from segue.doctor.estimate import findings_on_time
from segue.doctor.findings import Findings
from segue.doctor.heldout import HeldOut, held_out, is_store
from segue.doctor.machine import findings_on_machine, look
from segue.doctor.models import findings_on_bundle, findings_on_finished_run
from segue.doctor.runs import is_run, read_run
from segue.doctor.tokens import findings_on_store
from segue.errors import SegueError
from segue.recipes import Recipe


def kind_of_target(target: str | None) -> str:
    """`machine`, `bundle`, `run`, `store` or `sound`.

    Raises:
        SegueError: if it is none of them.
    """
    if target is None:
        return "machine"
    folder = Path(target)
    if target in bundled_names() or (folder / "bundle.json").is_file():
        return "bundle"
    if is_run(folder):
        return "run"
    if is_store(folder):
        return "store"
    if folder.is_dir() or (folder.is_file() and folder.name.lower().endswith((*SHARDS, ".jsonl"))):
        return "sound"
    names = ", ".join(bundled_names())
    raise SegueError(
        f"{target}: no folder of sound, tar shard, manifest, token store, run or bundle, and none of {names}; check it"
    )


def examine(
    target: str | None, recipe: Recipe, data: Sequence[Path] = (), device: str = "cpu", effort: Effort = Effort()
) -> Findings:
    """Findings, one after the other as they are made.

    Args:
        target: a bundle's name or folder, a run's folder, a token store, a place of sound; None for the machine alone.
        recipe: that data and machine are to serve.
        data: held-out sound or a token store, for models.
        device: that training would use.
        effort: time for each of the longer checks.

    Raises:
        SegueError: if there is nothing to examine, or `data` can't be used.
    """
    kind = kind_of_target(target)
    if data and kind not in ("bundle", "run"):
        raise SegueError(f"--data: for bundles and runs; {target or 'the machine'} is examined by itself")
    if kind == "bundle":
        yield from findings_on_bundle(str(target), held_out(data, effort.seed), effort)
    elif kind == "run":
        run = read_run(Path(str(target)))
        tokens_are_needed = run.kind in ("stage", "parallel") and not data
        held = HeldOut() if tokens_are_needed else held_out(data, effort.seed)
        yield from findings_on_finished_run(run, held, data[0] if len(data) == 1 else None, effort)
    else:
        if kind == "store":
            yield from findings_on_store(Path(str(target)), recipe)
        elif kind == "sound":
            yield from findings_on_sound([Path(str(target))], recipe, effort)
        machine = look(device, Path(str(target)) if target else Path())
        yield from findings_on_machine(machine)
        yield from findings_on_time(machine, recipe, effort)
