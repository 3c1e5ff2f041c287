"""Folders, tar shards and manifests as one list of items: where each lies, what is told of it, and its very bytes."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from clocks import clocks, ramp
from hypothesis import given
from hypothesis import strategies as st

from segue.data import shards, sources
from segue.data.corpus import fill
from segue.data.engine_local import here
from segue.data.items import Item, Member, groups
from segue.data.store import TokenStore
from segue.errors import SegueError

SECONDS = {"a.wav": 1.0, "deep/b.wav": 0.4, "c.flac": 0.7}


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, seconds in SECONDS.items():
        ramp(tmp_path / "sounds" / name, seconds)
    return tmp_path / "sounds"


def tar(path: Path, files: dict[str, bytes | Path], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            data = data.read_bytes() if isinstance(data, Path) else data
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def shard(folder: Path, path: Path, mode: str = "w", **more: bytes) -> Path:
    files = {f"./{name}": folder / name for name in SECONDS}
    return tar(path, {**files, **{name.replace("__", "."): data for name, data in more.items()}}, mode)


def manifest(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ids(*places: Path) -> list[str]:
    return [item.id for item in sources.find(places)[0]]


def facts(*places: Path) -> dict[str, dict[str, str]]:
    return {item.id: item.facts for item in sources.find(places)[0]}


def test_ids_tell_the_folder_and_do_not_change_when_places_are_added(tmp_path, folder):
    (tmp_path / "more").mkdir()
    packed = shard(folder, tmp_path / "more" / "x.tar")
    ramp(tmp_path / "lists" / "y.wav", 0.5)
    rows = [{"path": "y.wav"}, {"path": "../sounds/a.wav", "id": "mine"}, {"path": "../more/x.tar"}]
    listed = manifest(tmp_path / "lists" / "train.jsonl", *rows)
    alone = [ids(place) for place in (folder, packed, listed)]
    assert alone[0] == ["sounds/a.wav", "sounds/c.flac", "sounds/deep/b.wav"]
    assert alone[1] == ["more/x.tar/a.wav", "more/x.tar/deep/b.wav", "more/x.tar/c.flac"]
    assert alone[2] == ["lists/y.wav", "mine", *(f"lists/../more/x.tar/{name}" for name in SECONDS)]
    assert ids(folder, packed, listed) == [*alone[0], *alone[1], *alone[2]]
    assert ids(folder / "a.wav") == ["sounds/a.wav"]


def test_the_working_directory_has_a_name_too(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert ids(Path(".")) == ids(folder)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_a_member_sounds_as_the_file_that_was_packed(tmp_path, folder, suffix, monkeypatch):
    for name in ("extract", "extractall"):
        monkeypatch.setattr(tarfile.TarFile, name, lambda *args, **more: pytest.fail("unpacked"))
    packed = shard(folder, tmp_path / f"x.{suffix}", "w" if suffix == "tar" else f"w:{suffix[-3:].strip('.t')}")
    items, skipped = sources.find([packed])
    assert [item.member for item in items] == list(SECONDS) and skipped == []
    assert all(item.compressed == (suffix != "tar") for item in items)
    for item, sound in shards.sounds(items[1:]):
        assert isinstance(sound, Member) and str(sound) == f"{packed}/{item.member}"
        assert sound.read() == (folder / item.member).read_bytes()
    fill([packed], tmp_path / "packed", clocks(), here(clocks()))
    fill([folder], tmp_path / "loose", clocks(), here(clocks()))
    packed_store, loose = TokenStore.open(tmp_path / "packed"), TokenStore.open(tmp_path / "loose")
    assert len(packed_store) == len(loose) == 3
    order = {row["id"].removeprefix("sounds/"): index for index, row in enumerate(loose.facts)}
    for index, row in enumerate(packed_store.facts):
        same = order[row["id"].split(f"x.{suffix}/")[1]]
        assert packed_store.codes(index).tolist() == loose.codes(same).tolist()
        assert row["seconds"] == loose.facts[same]["seconds"]


def test_facts_of_the_file_come_before_those_of_its_shard(tmp_path, folder):
    inside = json.dumps({"path": "deep/b.wav", "speaker": "s2", "licence": "CC0"}).encode()
    beside = json.dumps({"speaker": 7, "licence": ["free"], "text": "hello"}).encode()
    shard(folder, tmp_path / "x.tar", manifest__jsonl=inside, a__json=beside, c__json=b"{broken")
    told = {"path": "x.tar", "licence": "CC-BY-4.0", "source": "radio", "consent": "form 3"}
    found = facts(manifest(tmp_path / "list.jsonl", told))
    common = {"licence": "CC-BY-4.0", "source": "radio", "consent": "form 3"}
    key = f"{tmp_path.name}/x.tar"
    assert found[f"{key}/a.wav"] == common | {"speaker": "7", "text": "hello"}
    assert found[f"{key}/deep/b.wav"] == common | {"speaker": "s2", "licence": "CC0"}
    assert found[f"{key}/c.flac"] == common


def test_a_file_named_twice_is_one_item_that_knows_what_both_tell(tmp_path, folder):
    manifest(folder / "manifest.jsonl", {"path": "./a.wav", "speaker": "s1", "licence": "?"})
    listed = manifest(folder / "better.jsonl", {"path": "a.wav", "licence": "CC0"})
    assert ids(folder, folder, listed) == ids(folder)
    assert facts(folder, listed)["sounds/a.wav"] == {"speaker": "s1", "licence": "CC0"}


def test_two_files_with_one_id_are_refused(tmp_path, folder):
    ramp(tmp_path / "other" / "sounds" / "a.wav", 0.5)
    with pytest.raises(SegueError, match=r"one id, sounds/a\.wav"):
        sources.find([folder, tmp_path / "other" / "sounds"])


def test_what_a_manifest_names_and_is_not_there_is_listed(tmp_path, folder):
    rows = [{"path": "gone.wav"}, {"path": "notes.txt"}, {"path": "sounds/a.wav"}, {"path": "gone.tar"}]
    items, skipped = sources.find([manifest(tmp_path / "list.jsonl", *rows)])
    assert [item.member or item.path for item in items] == [str(folder / "a.wav")]
    assert [(Path(entry.path).name, entry.reason[:12]) for entry in skipped] == [
        ("gone.wav", "no such file"),
        ("notes.txt", "neither a so"),
        ("gone.tar", "no such file"),
    ]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_a_damaged_shard_gives_what_is_whole_and_is_listed(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(1, 2**15, (3, 80_000)).astype(np.int16)
    for index in range(3):
        soundfile.write(tmp_path / f"{index}.wav", noise[index], 16_000)
    files = {f"{index}.wav": tmp_path / f"{index}.wav" for index in range(3)}
    packed = tar(tmp_path / f"x.{suffix}", files, "w" if suffix == "tar" else "w:gz")
    data = packed.read_bytes()
    packed.write_bytes(data[: round(0.9 * len(data))])
    done = fill([packed], tmp_path / "store", clocks(), here(clocks()))
    assert done.written in ((2,) if suffix == "tar" else (1, 2))
    listed = [json.loads(line) for line in (tmp_path / "store" / "skipped.jsonl").read_text().splitlines()]
    assert any("a damaged tar" in entry["reason"] for entry in listed)
    assert suffix != "tar" or any("the tar ends after" in entry["reason"] for entry in listed)
    (tmp_path / "y.tar").write_bytes(b"no tar at all" * 100)
    assert sources.find([tmp_path / "y.tar"])[0] == [] and len(sources.find([tmp_path / "y.tar"])[1]) == 1


def test_a_shard_that_changed_since_it_was_listed_says_so(tmp_path, folder):
    for suffix in ("tar", "tar.gz"):
        packed = shard(folder, tmp_path / f"x.{suffix}", "w" if suffix == "tar" else "w:gz")
        items, _ = sources.find([packed])
        tar(packed, {"other.wav": b"shorter"}, "w" if suffix == "tar" else "w:gz")
        heard = [sound for _, sound in shards.sounds(items)]
        assert len(heard) == 3 and isinstance(heard[-1], SegueError)
        packed.unlink()
        assert all(isinstance(sound, SegueError) for _, sound in shards.sounds(items))


def test_of_members_with_one_name_the_last_one_counts(tmp_path, folder):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("a.wav", "c.flac", "deep/b.wav"):
            archive.add(folder / name, arcname="same.wav" if name != "c.flac" else name)
    items, _ = sources.find([tmp_path / "x.tar"])
    assert [item.member for item in items] == ["c.flac", "same.wav"]
    assert [sound.read() for _, sound in shards.sounds(items)][1] == (folder / "deep/b.wav").read_bytes()


def test_places_that_are_none_are_refused(tmp_path, folder):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "packed").mkdir()
    shard(folder, tmp_path / "packed" / "x.tar")
    for place, about in (("nowhere", "no such"), ("notes.txt", "give a folder"), ("packed", r"1 tar shards.*\*\.tar")):
        with pytest.raises(SegueError, match=about):
            sources.find([tmp_path / place])


@pytest.mark.parametrize("fact", [True, ["CC0"], {"name": "x"}])
def test_a_fact_that_is_no_text_is_refused(tmp_path, folder, fact):
    listed = manifest(tmp_path / "list.jsonl", {"path": "sounds/a.wav", "licence": fact})
    with pytest.raises(SegueError, match="licence"):
        sources.find([listed])


PATHS = st.lists(st.sampled_from(["x.tar", "y.tar", "x.tgz", "y.tgz", "z.wav"]), max_size=30)


@given(PATHS, st.integers(1, 7))
def test_groups_keep_order_and_never_divide_a_compressed_tar(paths, size):
    items = [Item(str(n), path, "", {}, "" if path == "z.wav" else "m") for n, path in enumerate(sorted(paths))]
    made = list(groups(items, size))
    assert [item for group in made for item in group] == items
    assert all(len(group) <= size for group in made if not group[0].compressed)
    for group in made:
        assert len({item.path for item in group if item.compressed}) <= 1
        assert len({item.compressed for item in group}) == 1
    for path in ("x.tgz", "y.tgz"):
        assert sum(group[0].path == path for group in made) <= 1


def test_a_shard_among_sound_files_is_listed(tmp_path, folder):
    (folder / "deep").mkdir(exist_ok=True)
    with tarfile.open(folder / "deep" / "more.tar", "w") as tar:
        tar.add(folder / "a.wav", "b.wav")
    items, skipped = sources.find([folder])
    assert [item.id for item in items] == ids(folder)
    assert [(one.id, one.reason) for one in skipped] == [
        ("sounds/deep/more.tar", "a tar shard among sound files; give it by itself")
    ]
