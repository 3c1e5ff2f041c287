"""A cluster gives what one process gives, and loses and doubles nothing when a machine is killed at its work."""

from __future__ import annotations

import functools
import json
import sys
import time

import pytest
import tiny
from clocks import clocks, others, ramp

from segue.cli.tokenize import load_tokenizers
from segue.data import engine_ray, sources
from segue.data.corpus import fill
from segue.data.engine_local import here
from segue.data.lock import locked
from segue.data.store import TokenStore
from segue.data.voice import Cutting
from segue.errors import SegueError

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False, "include_log_monitor": False}
SOON = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
}
CLIPS = 32


def contents(store) -> dict[str, tuple]:
    tokens = TokenStore.open(store)
    rows = {
        row["id"]: (row["seconds"], tokens.semantic(index).tolist(), tokens.codes(index).tolist())
        for index, row in enumerate(tokens.facts)
    }
    assert len(rows) == len(tokens), "a clip is doubled"
    return rows


@pytest.fixture
def cluster(monkeypatch):
    """Two machines of one CPU each, as far as Ray can tell."""
    pytest.importorskip("ray")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = cluster_utils.Cluster(True, head_node_args={**NODE, "no_monitor": True, "_system_config": SOON})
    made.add_node(**NODE)
    yield made
    made.shutdown()


def test_a_machine_killed_half_way_loses_and_doubles_nothing(tmp_path, bundle_folder, cluster):
    began = time.monotonic()
    sounds = tiny.corpus(tmp_path / "sounds", CLIPS, 0.5)
    (sounds / "diary.wav").write_text("no sound")
    load = functools.partial(load_tokenizers, str(bundle_folder), None, None)
    store, told = tmp_path / "store", []

    def watch(done: int, total: int) -> None:
        told.append(done)
        if cluster.worker_nodes and done >= total // 4:
            assert done < total / 2
            print(f"{time.monotonic() - began:5.1f} s: {done} of {total} done, a machine is killed")
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    done = fill(
        [sounds], store, load(), engine_ray.cluster(load, 2, cluster.address, items_a_file=2), on_progress=watch
    )
    print(f"{time.monotonic() - began:5.1f} s: {done}")
    assert len(cluster.list_all_nodes()) == 1 and told[-1] == CLIPS + 1
    assert (done.written, done.kept, done.skipped) == (CLIPS, 0, 1)
    assert "diary.wav" in (store / "skipped.jsonl").read_text()
    fill([sounds], tmp_path / "alone", load(), here(load()))
    assert contents(store) == contents(tmp_path / "alone")
    again = fill([sounds], store, load(), here(load()))
    assert (again.written, again.kept) == (0, CLIPS)
    assert [path.name for path in store.iterdir() if path.name.endswith(".part")] == []


@pytest.fixture
def group(tmp_path):
    """A group of three items, one of them no sound, and the row of it that Ray gives to an actor."""
    for index in range(2):
        ramp(tmp_path / "sounds" / f"{index}.wav", 0.5)
    (tmp_path / "sounds" / "diary.wav").write_text("no sound")
    items, _ = sources.find([tmp_path / "sounds"])
    return items, {"number": [7], "items": [json.dumps([engine_ray._whole_path(item) for item in items])]}


def actor(store, load=clocks):
    return engine_ray._Group(load, clocks().header, Cutting(), str(store))


def test_a_group_that_is_done_again_finds_its_file(tmp_path, group):
    items, batch = group
    store = tmp_path / "store"
    with locked(store):
        first = actor(store)(batch)
        assert (first["number"], first["written"], first["seconds"]) == ([7], [2], [1.0])
        file = store / engine_ray.file_name(items)
        stamp = file.stat().st_mtime_ns
        assert actor(store)(batch) == first and file.stat().st_mtime_ns == stamp
        assert "diary.wav" in first["skipped"][0] and len(contents(store)) == 2
        assert sorted(path.name for path in store.iterdir()) == [".lock", file.name]


def test_a_group_that_kills_its_workers_is_left_out_in_the_end(tmp_path, group, monkeypatch):
    def dies(self, items):
        raise InterruptedError

    items, batch = group
    store = tmp_path / "store"
    with locked(store):
        whole = actor(store)
        with monkeypatch.context() as context:
            context.setattr("segue.data.work.Worker.__call__", dies)
            for _ in range(engine_ray.ATTEMPTS):
                with pytest.raises(InterruptedError):
                    actor(store)(batch)
        given_up = whole(batch)
        assert given_up["written"] == [0] and given_up["skipped"][0].count("died each time") == len(items)
    assert fill([tmp_path / "sounds"], store, clocks(), here(clocks())).written == 2


def test_a_machine_without_the_store_or_with_other_weights_is_refused(tmp_path):
    with pytest.raises(SegueError, match="all machines must share"):
        actor(tmp_path / "store")
    with locked(tmp_path / "store"), pytest.raises(SegueError, match="other tokenizers"):
        actor(tmp_path / "store", others)


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SegueError, match=r"segue\[cluster\]"):
        engine_ray.cluster(clocks, 1)


def test_a_cluster_that_is_not_there_is_refused(tmp_path):
    pytest.importorskip("ray")
    ramp(tmp_path / "sounds" / "a.wav", 0.5)
    with pytest.raises(SegueError, match="no Ray cluster at 'nonsense'"):
        fill([tmp_path / "sounds"], tmp_path / "store", clocks(), engine_ray.cluster(clocks, 1, "nonsense"))


def test_a_failure_is_told_in_the_words_of_the_worker():
    text = "ray::Map() (pid=1)\n  File 'x.py', line 3\n{}\n\nThe above exception was the cause:\nray.exceptions.X: no"
    for raised, words in (
        ("segue.errors.SegueError: no weights here", "failed: no weights here;"),
        ("RuntimeError: bad kernel", "failed: RuntimeError: bad kernel;"),
    ):
        assert words in str(engine_ray._failure(RuntimeError(text.format(raised))))
    assert "failed: lost;" in str(engine_ray._failure(RuntimeError("lost")))
    assert "failed: RuntimeError();" in str(engine_ray._failure(RuntimeError()))
