"""Many processes give what one gives; one that dies or is stopped loses nothing that was done and doubles nothing."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import time

import pytest
from clocks import absent, clocks, deadly, others, ramp

from segue.data.corpus import fill
from segue.data.engine_local import here, processes
from segue.data.store import TokenStore
from segue.data.work import check_same
from segue.errors import SegueError


@pytest.fixture
def sounds(tmp_path):
    for index in range(8):
        ramp(tmp_path / "sounds" / f"{index}.wav", 0.3 + 0.1 * index)
    (tmp_path / "sounds" / "diary.wav").write_text("no sound")
    return tmp_path / "sounds"


def contents(store) -> dict[str, tuple]:
    tokens = TokenStore.open(store)
    rows = {
        row["id"]: (row["seconds"], tokens.semantic(index).tolist(), tokens.codes(index).tolist())
        for index, row in enumerate(tokens.facts)
    }
    assert len(rows) == len(tokens)
    return rows


def test_a_killed_worker_is_named_with_its_file_and_the_next_run_goes_on(tmp_path, sounds):
    flag = tmp_path / "flag"
    flag.touch()
    last = functools.partial(deadly, 16_000, flag)  # on 7.wav
    store, told = tmp_path / "store", []
    with pytest.raises(SegueError, match=r"killed \(SIGKILL\) on .*7\.wav; what was done is kept") as refusal:
        fill([sounds], store, last(), processes(last, 2), on_progress=lambda *counts: told.append(counts))
    assert "\n" not in str(refusal.value) and multiprocessing.active_children() == []
    kept = contents(store)
    assert 0 < len(kept) < 8 and "sounds/7.wav" not in kept
    assert "diary" not in str(kept) and told[0] == (0, 9) and told[-1][0] in (len(kept), len(kept) + 1)
    flag.unlink()
    done = fill([sounds], store, last(), here(last()), on_progress=lambda *counts: told.append(counts))
    assert (done.written, done.kept, done.skipped) == (8 - len(kept), len(kept), 1) and told[-1] == (9, 9)
    fill([sounds], tmp_path / "alone", clocks(), here(clocks()))
    alone = contents(tmp_path / "alone")
    assert contents(store) == alone and kept.items() <= alone.items()


@pytest.fixture
def control_c():
    """Ctrl-C as in a terminal: jobs that a shell put into the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_control_c_stops_the_workers_and_keeps_what_was_done(tmp_path, sounds, control_c):
    def stop(done: int, total: int) -> None:
        if done == 2:
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGINT)  # a terminal sends it to all
            time.sleep(0.1)
            assert all(process.is_alive() for process in multiprocessing.active_children())
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fill([sounds], tmp_path / "store", clocks(), processes(clocks, 1), on_progress=stop)
    assert multiprocessing.active_children() == []
    assert len(contents(tmp_path / "store")) == 2
    done = fill([sounds], tmp_path / "store", clocks(), here(clocks()))
    assert (done.written, done.kept) == (6, 2)


def test_a_worker_that_can_not_begin_says_why(tmp_path, sounds):
    with pytest.raises(SegueError, match="no weights here"):
        fill([sounds], tmp_path / "store", clocks(), processes(absent, 1))
    assert multiprocessing.active_children() == []


def test_a_worker_with_other_tokenizers_is_refused():
    check_same(clocks(), clocks().header)
    with pytest.raises(SegueError, match=r"other tokenizers.*another"):
        check_same(others(), clocks().header)


def test_no_workers_are_refused():
    with pytest.raises(SegueError, match="0 workers"):
        processes(clocks, 0)
