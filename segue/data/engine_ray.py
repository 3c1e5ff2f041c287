"""Tokenising on many machines: Ray Data maps the same function over groups of items, with an actor a worker.

Every machine sees sound and store at the same paths. A group's clips become one file of the store, named after the
items in it and written by the actor. A group that Ray runs again, because a machine was lost, finds its file or writes
the same one again, so nothing is lost and nothing doubled. Ray comes with the extra `cluster`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from segue.data.items import Item, Skipped, groups
from segue.data.lock import is_locked
from segue.data.store import StoreHeader, read_part, write_part
from segue.data.voice import Cutting
from segue.data.work import Engine, Job, Loader, Outcome, Worker, check_same
from segue.errors import SegueError

ITEMS_A_FILE = 256
ATTEMPTS = 3
_BLOCKS_A_WORKER = 64
_GROUPS_A_WORKER = 4
_RAISED = re.compile(r"^((?:\w+\.)*[A-Z]\w*: .+)$", re.MULTILINE)


def cluster(
    load: Loader,
    workers: int,
    address: str = "auto",
    gpus_per_worker: float = 0.0,
    items_a_file: int = ITEMS_A_FILE,
) -> Engine:
    """On a Ray cluster, by actors of one CPU and one thread each.

    Args:
        load: makes the tokenizers in each actor; a function of a module, or a `functools.partial` of one.
        workers: actors.
        address: of the cluster; `auto` finds the one that this machine belongs to, `local` starts one here.
        gpus_per_worker: that an actor gets; where it is above 0, `load` should put the tokenizers on the GPU.
        items_a_file: recordings that become one file of the store, at most; fewer where there is little to do.

    Raises:
        SegueError: if a number is out of range or Ray is not installed; on running, if there is no cluster at
            `address`, or a machine can't load the tokenizers or doesn't see the store.
    """
    if workers < 1:
        raise SegueError(f"{workers} workers: at least 1")
    if not gpus_per_worker >= 0:
        raise SegueError(f"gpus_per_worker {gpus_per_worker}: 0 or more")
    _ray()

    def run(job: Job) -> Generator[Outcome, None, None]:
        ray = _ray()
        share = math.ceil(len(job.items) / (_GROUPS_A_WORKER * workers))
        work = list(groups(job.items, min(items_a_file, max(1, share))))
        if not work:
            return
        rows = [
            {"number": number, "items": json.dumps([_whole_path(item) for item in group])}
            for number, group in enumerate(work)
        ]
        with _connected(ray, address, workers), _quiet(ray):
            if address == "local" and ray.cluster_resources().get("GPU", 0) < gpus_per_worker:
                raise SegueError(f"gpus_per_worker {gpus_per_worker}: this machine has fewer GPUs; leave it out")
            done = ray.data.from_items(
                rows, override_num_blocks=min(len(rows), _BLOCKS_A_WORKER * workers)
            ).map_batches(
                _Group,
                batch_size=1,
                batch_format="numpy",
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
                fn_constructor_args=(load, job.header, job.cutting, str(job.store.resolve())),
                num_cpus=1,
                num_gpus=gpus_per_worker,
            )
            try:
                for row in done.iter_rows():
                    yield Outcome(
                        [item.id for item in work[row["number"]]],
                        written=int(row["written"]),
                        seconds=float(row["seconds"]),
                        skipped=_skipped(row["skipped"]),
                    )
            except ray.exceptions.RayError as error:
                raise _failure(error) from error

    return run


class _Group:
    """The actor: a group of items to a file of the store. Batches of one row: number and items, as JSON."""

    def __init__(self, load: Loader, header: StoreHeader, cutting: Cutting, store: str) -> None:
        torch.set_num_threads(1)
        self._store, self._header = Path(store), header
        if not is_locked(self._store):
            raise SegueError(f"{store}: not seen from {os.uname().nodename}; all machines must share that folder")
        tokenizers = load()
        check_same(tokenizers, header)
        self._worker = Worker(tokenizers, cutting)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        items = [Item(**values) for values in json.loads(batch["items"][0])]
        written, seconds, skipped = self._write(items)
        return {"number": batch["number"], "written": [written], "seconds": [seconds], "skipped": [skipped]}

    def _write(self, items: Sequence[Item]) -> tuple[int, float, str]:
        path = self._store / file_name(items)
        attempts = path.with_name(f".{path.name}.attempts.part")
        if not path.exists():
            if _counted(attempts) > ATTEMPTS:
                reason = f"its group was begun {ATTEMPTS} times, and the worker died each time"
                return 0, 0.0, _listed(Skipped(item.id, str(item), reason) for item in items)
            outcomes = list(self._worker(items))
            rows = [row for outcome in outcomes for row in outcome.rows]
            skipped = _listed(entry for outcome in outcomes for entry in outcome.skipped)
            if rows:
                write_part(path, self._header, rows, skipped)
            attempts.unlink(missing_ok=True)
            if not rows:
                return 0, 0.0, skipped
        part = read_part(path, self._header)
        return len(part.ids), part.seconds, part.note


def _counted(path: Path) -> int:
    """How often this was called with `path`, here or anywhere."""
    with open(path, "a") as file:
        file.write(".")
    return path.stat().st_size


def file_name(items: Sequence[Item]) -> str:
    """Of the file that holds the clips of these items: the same for the same items."""
    return f"part-g{hashlib.sha256(json.dumps([item.id for item in items]).encode()).hexdigest()[:20]}.parquet"


def _whole_path(item: Item) -> dict[str, Any]:
    return dataclasses.asdict(item) | {"path": os.path.abspath(item.path)}


def _listed(skipped: Iterable[Skipped]) -> str:
    return json.dumps([dataclasses.asdict(entry) for entry in skipped])


def _skipped(text: str) -> list[Skipped]:
    return [Skipped(**entry) for entry in json.loads(text)]


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SegueError('work on a cluster needs Ray, which is missing; pip install "segue[cluster]"') from error
    return ray


@contextmanager
def _connected(ray: Any, address: str, workers: int) -> Iterator[None]:
    """Within, this process belongs to the cluster; left as it was found."""
    if ray.is_initialized():
        yield
        return
    here = {"num_cpus": max(workers, os.cpu_count() or 1), "include_dashboard": False} if address == "local" else {}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SegueError(f"no Ray cluster at {address!r} ({error}); give local, auto or HOST:PORT") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Within, Ray Data draws no bars of its own and logs nothing to the terminal."""
    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.CRITICAL)  # what fails is told by the error that is raised
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        logger.setLevel(before[1])


def _failure(error: Exception) -> SegueError:
    """What went wrong, as the worker said it: Ray's errors tell it within a traceback of their own."""
    text = str(error)
    said = [found for found in _RAISED.findall(text) if not found.startswith("ray.")]
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [repr(error)]
    what = said[0].removeprefix(f"{SegueError.__module__}.{SegueError.__name__}: ") if said else lines[0]
    return SegueError(f"a worker of the cluster failed: {what}; what was done is kept and the same command goes on")
