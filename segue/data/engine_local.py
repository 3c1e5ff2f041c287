"""Tokenising on one machine: in this process, or in several with one thread each. Here the rows go to the caller.

A worker gets its next items when it has none left, and gives each outcome back as soon as it has it, so what a worker
had not given back when it died is all that is lost, and nothing is written twice.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import cast

import torch

from segue.data.aligned import Tokenizers
from segue.data.items import Item, groups
from segue.data.store import StoreHeader
from segue.data.voice import Cutting
from segue.data.work import Engine, Job, Loader, Outcome, Worker, check_same
from segue.errors import SegueError

_STOP_SECONDS = 5.0


def here(tokenizers: Tokenizers) -> Engine:
    """In this process, item after item."""

    def run(job: Job) -> Generator[Outcome, None, None]:
        yield from Worker(tokenizers, job.cutting)(job.items)

    return run


def processes(load: Loader, workers: int) -> Engine:
    """In processes of their own, one thread each. How many they are changes the order of what they give, and no more.

    Args:
        load: makes the tokenizers in each process; a function of a module, or a `functools.partial` of one.
        workers: processes.

    Raises:
        SegueError: if `workers` is below 1; on running, if a process dies or can't load the tokenizers.
    """
    if workers < 1:
        raise SegueError(f"{workers} workers: at least 1")

    def run(job: Job) -> Generator[Outcome, None, None]:
        waiting = deque(groups(job.items, 1))
        pool: dict[Connection, tuple[SpawnProcess, list[Item]]] = {}
        try:
            for _ in range(min(workers, len(waiting))):
                pipe, process = _start(load, job)
                pool[pipe] = process, []
            while pool:
                for pipe in cast(list[Connection], wait(list(pool))):
                    process, at_work = pool[pipe]
                    try:
                        said = pipe.recv()
                    except (EOFError, OSError) as error:
                        raise _death(process, at_work) from error
                    if isinstance(said, Outcome):
                        yield said
                    elif isinstance(said, SegueError):
                        raise said
                    elif waiting:
                        pool[pipe] = process, waiting.popleft()
                        pipe.send(pool[pipe][1])
                    else:
                        pipe.close()
                        process.join()
                        del pool[pipe]
        finally:
            for pipe, (process, _) in pool.items():
                pipe.close()
                process.terminate()
            for process, _ in pool.values():
                process.join(_STOP_SECONDS)
                process.kill()

    return run


def _start(load: Loader, job: Job) -> tuple[Connection, SpawnProcess]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_work, args=(theirs, load, job.header, job.cutting), daemon=True)
    with _control_c_waits():
        process.start()
    theirs.close()
    return ours, process


@contextmanager
def _control_c_waits() -> Iterator[None]:
    """Within, Ctrl-C is held back; in processes that are started it stays so, for the parent is to stop them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would let Ctrl-C through on being started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, load: Loader, header: StoreHeader, cutting: Cutting) -> None:
    """What a process does: ask, work, give back; over when the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        try:
            tokenizers = load()
            check_same(tokenizers, header)
            worker = Worker(tokenizers, cutting)
        except SegueError as error:
            pipe.send(error)
            return
        while True:
            pipe.send(None)
            for outcome in worker(pipe.recv()):
                pipe.send(outcome)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _death(process: SpawnProcess, at_work: list[Item]) -> SegueError:
    process.join(_STOP_SECONDS)
    code = process.exitcode
    how = f"was killed ({signal.Signals(-code).name})" if code is not None and code < 0 else f"ended with code {code}"
    more = f" and {len(at_work) - 1} more" if len(at_work) > 1 else ""
    what = f" on {at_work[0]}{more}" if at_work else ""
    return SegueError(
        f"a worker {how}{what}; what was done is kept and the same command goes on; "
        "if memory ran out, use fewer workers or a greatest clip length"
    )
