"""Checkpoints: a nested state of tensors and plain values as safetensors + JSON, and the newest that is whole.

A checkpoint is a folder `step-00001200` with `state.safetensors` (every tensor, keyed by its path) and
`state.json` (everything else). It appears under its name only when complete. Older formats are brought up to date.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from segue.artifact import load_tensors, read_json, written_folder
from segue.errors import SegueError
from segue.train.migrations import FORMAT_VERSION, MIGRATIONS, up_to_date

_TENSOR = "__tensor__"
_NAME = re.compile(r"step-(\d{8})")


def save(folder: Path, step: int, state: dict[str, Any], keep: int = 2, spare: int | None = None) -> Path:
    """Write `state` after `step` steps; drop what a killed run half wrote, and all checkpoints but the last `keep`.

    The one of step `spare` stays as well.

    Raises:
        SegueError: if it can't be written.
    """
    for unfinished in (*folder.glob(".step-*.part"), *folder.glob(".step-*.old")):
        shutil.rmtree(unfinished)
    tensors: dict[str, Tensor] = {}
    plain = _pack(state, "", tensors)
    target = _path(folder, step)
    with written_folder(target) as beside:
        save_file(tensors, beside / "state.safetensors")
        digest = _digest(beside / "state.safetensors")
        meta = {"format_version": FORMAT_VERSION, "step": step, "sha256": digest, "state": plain}
        (beside / "state.json").write_text(json.dumps(meta))
    spared = target if spare is None else _path(folder, spare)
    for old in _all(folder)[:-keep]:
        if old != spared:
            shutil.rmtree(old)
    return target


def is_there(folder: Path, step: int) -> bool:
    """Whether there is a checkpoint of `step` steps, whole or not."""
    return _path(folder, step).is_dir()


def load(folder: Path, step: int) -> dict[str, Any]:
    """The state after `step` steps.

    Raises:
        SegueError: if its checkpoint is missing or damaged.
    """
    return _load(_path(folder, step))[1]


def load_newest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """The newest checkpoint that is whole, as (step, state); None where there is none.

    A damaged one is passed over with a warning. If all are damaged, that is an error: starting anew in silence
    would lose work.

    Raises:
        SegueError: if there are checkpoints and none can be read.
    """
    candidates = _all(folder)
    failures = []
    for path in reversed(candidates):
        try:
            return _load(path)
        except SegueError as error:
            failures.append(str(error))
            warnings.warn(f"checkpoint passed over: {error}", stacklevel=2)
    if failures:
        raise SegueError(f"{folder}: no checkpoint can be read ({failures[0]}); remove the folder to start anew")
    return None


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _load(path: Path) -> tuple[int, dict[str, Any]]:
    meta = read_json(path / "state.json", "checkpoint")
    version = meta.get("format_version")
    if version != FORMAT_VERSION and version not in MIGRATIONS:
        raise SegueError(f"{path}: checkpoint format {version}, this Segue reads up to {FORMAT_VERSION}; update Segue")
    weights = path / "state.safetensors"
    if not {"step", "sha256", "state"} <= meta.keys():
        raise SegueError(f"{path / 'state.json'}: damaged")
    if not weights.is_file() or _digest(weights) != meta["sha256"]:
        raise SegueError(f"{weights}: missing or damaged")
    return meta["step"], up_to_date(_unpack(meta["state"], load_tensors(weights)), version)


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)) if folder.is_dir() else []


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: path}
    if isinstance(value, dict):
        return {"dict": [[key, _pack(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_pack(item, f"{path}/{index}", tensors) for index, item in enumerate(value)]}
    assert value is None or isinstance(value, bool | int | float | str), f"{path}: {type(value)} in a checkpoint"
    return value


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if "dict" in value:
        return {key: _unpack(item, tensors) for key, item in value["dict"]}
    return [_unpack(item, tensors) for item in value["list"]]
