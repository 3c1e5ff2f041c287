"""Artifacts describe and defend themselves, and appear whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from segue import artifact
from segue.artifact import Part, full, half, load_part, save_part, written_file, written_folder
from segue.errors import SegueError

PART = Part(
    "codec",
    {"width": 3, "name": "x"},
    {"a": torch.arange(6.0).reshape(2, 3).half(), "b": torch.tensor([1, 2]), "c": torch.tensor(0.5).half()},
    {"semantic": "0123"},
    {"hours": 2.5},
)


def test_a_part_comes_back_as_it_was(tmp_path):
    save_part(PART, tmp_path / "p")
    part = load_part(tmp_path / "p", "codec")
    assert part.fingerprint == PART.fingerprint and len(part.fingerprint) == 16
    assert (part.kind, part.config, part.requires, part.card) == (PART.kind, PART.config, PART.requires, PART.card)
    assert part.tensors.keys() == PART.tensors.keys()
    for name, tensor in PART.tensors.items():
        assert torch.equal(part.tensors[name], tensor) and part.tensors[name].dtype == tensor.dtype
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["part.json", "weights.safetensors"]


def test_the_fingerprint_sees_weights_names_config_and_kind_but_not_the_card():
    def changed(**values):
        return dataclasses.replace(PART, **values).fingerprint

    nudged = PART.tensors | {"a": PART.tensors["a"] + torch.tensor([[0, 0, 0], [0, 0, 0.5]]).half()}
    renamed = {("z" if name == "a" else name): tensor for name, tensor in PART.tensors.items()}
    reshaped = PART.tensors | {"a": PART.tensors["a"].reshape(3, 2)}
    others = [
        changed(tensors=nudged),
        changed(tensors=renamed),
        changed(tensors=reshaped),
        changed(config={"width": 4, "name": "x"}),
        changed(kind="semantic"),
    ]
    assert len({PART.fingerprint, *others}) == 6
    assert changed(card={}) == PART.fingerprint
    assert changed(config={"name": "x", "width": 3}) == PART.fingerprint


def test_half_and_full_change_floats_alone():
    halved = half({"a": torch.ones(2, 2).T, "b": torch.tensor([3])})
    assert halved["a"].dtype == torch.float16 and halved["b"].dtype == torch.int64
    assert full(halved)["a"].dtype == torch.float32 and full(halved)["b"].dtype == torch.int64


def edit_meta(folder: Path, **values) -> None:
    meta = json.loads((folder / "part.json").read_text())
    (folder / "part.json").write_text(json.dumps({**meta, **values}))


def test_tampered_weights_are_refused(tmp_path):
    save_part(PART, tmp_path / "p")
    tensors = load_file(tmp_path / "p" / "weights.safetensors")
    tensors["a"][0, 0] += 1
    save_file(tensors, tmp_path / "p" / "weights.safetensors")
    with pytest.raises(SegueError, match=f"is not the {PART.fingerprint} stated"):
        load_part(tmp_path / "p")


def test_a_tampered_config_is_refused(tmp_path):
    save_part(PART, tmp_path / "p")
    edit_meta(tmp_path / "p", config={"width": 4, "name": "x"})
    with pytest.raises(SegueError, match="changed or mixed"):
        load_part(tmp_path / "p")


@pytest.mark.parametrize("keep", [0, 1, 7, 60, -3])
def test_cut_off_weights_are_refused(tmp_path, keep):
    save_part(PART, tmp_path / "p")
    weights = tmp_path / "p" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(SegueError, match=r"weights\.safetensors: damaged"):
        load_part(tmp_path / "p")


def test_weights_that_are_gone_are_named(tmp_path):
    save_part(PART, tmp_path / "p")
    (tmp_path / "p" / "weights.safetensors").unlink()
    with pytest.raises(SegueError, match="no such weights file"):
        load_part(tmp_path / "p")


def test_a_newer_format_asks_for_an_update(tmp_path):
    save_part(PART, tmp_path / "p")
    edit_meta(tmp_path / "p", format_version=artifact.FORMAT_VERSION + 1)
    with pytest.raises(SegueError, match=r"format 2.*reads 1; update"):
        load_part(tmp_path / "p")


def test_another_kind_is_refused(tmp_path):
    save_part(PART, tmp_path / "p")
    with pytest.raises(SegueError, match="a codec artifact, a stage was asked for"):
        load_part(tmp_path / "p", "stage")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"format_version": 1}', "\xff\xfe"])
def test_an_unreadable_description_is_one_line(tmp_path, text):
    save_part(PART, tmp_path / "p")
    (tmp_path / "p" / "part.json").write_text(text, encoding="latin-1")
    with pytest.raises(SegueError) as caught:
        load_part(tmp_path / "p")
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["config", "requires", "card", "kind"])
def test_a_field_of_the_wrong_type_is_refused(tmp_path, key):
    save_part(PART, tmp_path / "p")
    edit_meta(tmp_path / "p", **{key: 3})
    with pytest.raises(SegueError):
        load_part(tmp_path / "p")


def test_a_folder_without_a_part_is_no_artifact(tmp_path):
    with pytest.raises(SegueError, match=r"part\.json: not found"):
        load_part(tmp_path)


def test_an_old_part_gives_way_to_a_new_one(tmp_path):
    save_part(PART, tmp_path / "p")
    save_part(dataclasses.replace(PART, config={"width": 5}), tmp_path / "p")
    assert load_part(tmp_path / "p").config == {"width": 5}
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_a_write_that_fails_leaves_the_old_part_and_nothing_else(tmp_path, monkeypatch):
    save_part(PART, tmp_path / "p")

    def full_disk(tensors, path):
        Path(path).write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifact, "save_file", full_disk)
    with pytest.raises(SegueError, match="No space left on device"):
        save_part(dataclasses.replace(PART, config={}), tmp_path / "p")
    with pytest.raises(SegueError, match="No space left"):
        save_part(PART, tmp_path / "q")
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert load_part(tmp_path / "p").fingerprint == PART.fingerprint


def test_a_part_that_does_not_fit_on_the_disk_leaves_the_old_one(tmp_path, small_disk):
    save_part(PART, tmp_path / "p")
    with small_disk(), pytest.raises(SegueError, match="can't be written"):
        save_part(Part("codec", {}, {"a": torch.zeros(10_000)}), tmp_path / "p")
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert load_part(tmp_path / "p").fingerprint == PART.fingerprint


def test_the_old_part_comes_back_if_the_new_one_can_not_take_its_place(tmp_path, monkeypatch):
    save_part(PART, tmp_path / "p")
    rename, calls = Path.rename, []

    def second_fails(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(SegueError, match="Input/output"):
        save_part(dataclasses.replace(PART, config={}), tmp_path / "p")
    assert load_part(tmp_path / "p").fingerprint == PART.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), KeyError(1)])
@pytest.mark.parametrize("written", [written_file, written_folder])
def test_whatever_goes_wrong_no_leftovers(tmp_path, written, error):
    wanted = SegueError if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted), written(tmp_path / "x") as beside:
        assert beside.parent == tmp_path and beside.exists() and not (tmp_path / "x").exists()
        (beside / "y" if beside.is_dir() else beside).write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_file_appears_complete_with_ordinary_rights(tmp_path):
    with written_file(tmp_path / "new" / "x") as beside:
        beside.write_text("whole")
    assert (tmp_path / "new" / "x").read_text() == "whole"
    plain = tmp_path / "plain"
    plain.write_text("")
    assert (tmp_path / "new" / "x").stat().st_mode == plain.stat().st_mode
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x"]


@pytest.mark.parametrize("written", [written_file, written_folder])
@pytest.mark.parametrize("where", ["file/below", "/proc/below"])
def test_a_place_that_can_not_be_written_is_named(tmp_path, written, where):
    (tmp_path / "file").write_text("")
    target = tmp_path / where
    with pytest.raises(SegueError, match="below: can't be written"), written(target):
        pass
