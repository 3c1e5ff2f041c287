"""The verb `tokenize`: every kind of source at once, in one process or two, and refusals of one line."""

from __future__ import annotations

import json
import sys
import tarfile

import pytest
import tiny

from segue.data.store import TokenStore


@pytest.fixture
def places(tmp_path):
    """A folder of two, a shard of two and a manifest that names one file more and one that is gone."""
    loose = tiny.corpus(tmp_path / "loose", 2, 1.2)
    packed = tiny.corpus(tmp_path / "packed", 2, 0.8)
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "x.tar", "w") as archive:
        archive.add(packed, arcname=".")
    tiny.corpus(tmp_path / "lists", 1, 0.6)
    facts = {"path": "clip000.wav", "speaker": "s1", "source": "radio", "licence": "CC0", "consent": "form 12"}
    rows = [facts, {"path": "gone.wav"}]
    (tmp_path / "lists" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [loose, tmp_path / "shards" / "x.tar", tmp_path / "lists" / "train.jsonl"]


def contents(store) -> dict[str, tuple]:
    tokens = TokenStore.open(store)
    facts = {row["id"]: [row[key] for key in ("source", "speaker", "licence", "consent")] for row in tokens.facts}
    codes = {row["id"]: tokens.codes(index).tolist() for index, row in enumerate(tokens.facts)}
    assert len(codes) == len(tokens)
    return {name: (facts[name], codes[name]) for name in codes}


def refused(outcome, about: str) -> None:
    assert outcome.code == 2 and outcome.out == "" and outcome.err.count("\n") == 1, outcome
    assert outcome.err.startswith("segue: ") and about in outcome.err, outcome


def test_sources_of_every_kind_become_one_store_whoever_does_the_work(cli, tmp_path, bundle_folder, places):
    common = ("--bundle", bundle_folder)
    outcome = cli("tokenize", *places, "--out", tmp_path / "one", *common, "--threads", "1")
    assert outcome.code == 0 and "5 clips written" in outcome.err and "1 files skipped" in outcome.err, outcome
    outcome = cli("tokenize", *places, "--out", tmp_path / "two", *common, "--workers", "2")
    assert outcome.code == 0 and "5 clips written" in outcome.err, outcome
    made = contents(tmp_path / "one")
    assert made == contents(tmp_path / "two")
    assert set(made) == {
        *("loose/clip000.wav", "loose/clip001.wav", "shards/x.tar/clip000.wav", "shards/x.tar/clip001.wav"),
        "lists/clip000.wav",
    }
    assert made["lists/clip000.wav"][0] == ["radio", "s1", "CC0", "form 12"]
    assert made["shards/x.tar/clip001.wav"][0] == ["shards", "", "", None]
    assert "gone.wav" in (tmp_path / "one" / "skipped.jsonl").read_text()
    again = cli("tokenize", *reversed(places), "--out", tmp_path / "one", *common)
    assert "0 clips written" in again.err and "5 were there before" in again.err


def test_long_recordings_are_cut_and_parts_may_be_given_one_by_one(cli, tmp_path, bundle_folder, monkeypatch):
    tiny.corpus(tmp_path / "sounds", 1, 2.4)
    monkeypatch.chdir(bundle_folder)
    parts = ("--codec", "codec", "--semantic", "semantic")
    outcome = cli("tokenize", tmp_path / "sounds", "--out", tmp_path / "store", *parts, "--max-seconds", "1")
    assert outcome.code == 0 and "3 clips written" in outcome.err, outcome
    assert {name.split("#")[1] for name in contents(tmp_path / "store")} == {
        "0.000-0.800",
        "0.800-1.600",
        "1.600-2.400",
    }


@pytest.mark.parametrize(
    ("options", "about"),
    [
        (("--engine", "spark"), "--engine spark"),
        (("--workers", "0"), "--workers 0"),
        (("--max-seconds", "0.3"), "max_seconds 0.3"),
        (("--engine", "ray", "--device", "auto"), "--gpus-per-worker"),
        (("--engine", "ray", "--gpus-per-worker", "-1"), "gpus_per_worker -1"),
        (("--engine", "ray"), "segue[cluster]"),
        (("--trim",), "segue[vad]"),
        (("--codec", "nowhere"), "nowhere"),
    ],
)
def test_options_that_can_not_be_had_are_refused(cli, tmp_path, bundle_folder, options, about, monkeypatch):
    for package in ("ray", "silero_vad"):
        monkeypatch.setitem(sys.modules, package, None)
    folder = tiny.corpus(tmp_path / "sounds", 1, 0.5)
    refused(cli("tokenize", folder, "--out", tmp_path / "store", "--bundle", bundle_folder, *options), about)


def test_a_full_disk_is_refused_and_nothing_is_half_written(cli, tmp_path, bundle_folder, places, small_disk):
    with small_disk():
        outcome = cli("tokenize", places[0], "--out", tmp_path / "store", "--bundle", bundle_folder)
    refused(outcome, "check folder and space")
    assert not list((tmp_path / "store").glob("*.parquet")) and not list((tmp_path / "store").glob("*.part"))


@pytest.mark.parametrize("hours", ["0", "-1", "nan"])
def test_no_hours_are_refused(cli, tmp_path, bundle_folder, hours):
    sound = tiny.corpus(tmp_path / "sound", 1, 1.0)
    told = cli("tokenize", sound, "--out", tmp_path / "store", "--bundle", bundle_folder, "--hours", hours)
    assert told.code == 2 and "more than 0" in told.err and not (tmp_path / "store").exists()
