"""A trained part on disk: a folder with `part.json` and `weights.safetensors`, and nothing else is run on loading.

`part.json` holds the format version, the kind, the config that rebuilds it, the fingerprints of the parts it
was trained on, what it was fed and under which licence. The fingerprint is a SHA-256 over kind, config and
every weight, checked at each load: two parts belong together exactly when the fingerprints say so.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from segue.errors import SegueError

FORMAT_VERSION = 1
ARTIFACT = "artifact"
"""Folder of the part inside the run that made it."""

_META = "part.json"
_WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Part:
    """One trained part, as values.

    Attributes:
        kind: `codec`, `semantic` or `stage`.
        config: plain values that rebuild the module.
        tensors: name -> weight, on the CPU.
        requires: role -> token fingerprint of each tokenizer whose tokens this part was trained on.
        card: what it was trained on, for how long, under which licence; free of effect.
    """

    kind: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    requires: dict[str, str] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def token_fingerprint(self) -> str:
        """What its tokens go by: its own fingerprint, or that of the codec whose encoder and codebooks it kept."""
        return self.requires.get(self.kind, self.fingerprint)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over kind, config and weights, as 16 hex digits."""
        digest = hashlib.sha256(json.dumps([self.kind, self.config], sort_keys=True).encode())
        for name in sorted(self.tensors):
            tensor = self.tensors[name].contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]


def joint_fingerprint(fingerprints: dict[str, str]) -> str:
    """Of parts that are used together, by role: 16 hex digits."""
    return hashlib.sha256(json.dumps(fingerprints, sort_keys=True).encode()).hexdigest()[:16]


def half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Floating weights in half precision, on the CPU: the form in which parts are kept."""
    return {
        name: (tensor.detach().cpu().half() if tensor.is_floating_point() else tensor.detach().cpu()).contiguous()
        for name, tensor in tensors.items()
    }


def full(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Half-precision weights as float32, ready for `load_state_dict`."""
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def save_part(part: Part, folder: Path) -> None:
    """Write `part` to `folder`, replacing what was there only once everything is on disk.

    Raises:
        SegueError: if the folder can't be written or the disk is full.
    """
    meta = {
        "format_version": FORMAT_VERSION,
        "kind": part.kind,
        "fingerprint": part.fingerprint,
        "requires": part.requires,
        "config": part.config,
        "card": part.card,
    }
    with written_folder(folder) as beside:
        save_file(part.tensors, beside / _WEIGHTS)
        (beside / _META).write_text(json.dumps(meta, indent=2) + "\n")


def load_part(folder: Path, kind: str | None = None) -> Part:
    """Read a part and check its format, its kind and its fingerprint.

    Args:
        folder: where `save_part` wrote it.
        kind: the kind that is wanted; None takes any.

    Raises:
        SegueError: if it is missing, of another kind or a newer format, damaged, or was changed by hand.
    """
    meta = read_json(folder / _META, "artifact")
    version = meta.get("format_version")
    if version != FORMAT_VERSION:
        raise SegueError(f"{folder}: artifact format {version}, this Segue reads {FORMAT_VERSION}; update Segue")
    try:
        part = Part(
            kind=meta["kind"],
            config=meta["config"],
            tensors=load_tensors(folder / _WEIGHTS),
            requires=meta["requires"],
            card=meta["card"],
        )
        stated = meta["fingerprint"]
    except KeyError as error:
        raise SegueError(f"{folder / _META}: the key {error} is missing; make the artifact again") from error
    wanted = {"kind": str, "config": dict, "requires": dict, "card": dict}
    if not all(isinstance(meta[key], of) for key, of in wanted.items()):
        raise SegueError(f"{folder / _META}: damaged description; copy or make the artifact again")
    if kind is not None and part.kind != kind:
        raise SegueError(f"{folder}: this is a {part.kind} artifact, a {kind} was asked for")
    if part.fingerprint != stated:
        raise SegueError(
            f"{folder}: fingerprint {part.fingerprint} is not the {stated} stated; the files were changed or mixed"
        )
    return part


def artifact_folder(path: Path) -> Path:
    """The artifact's folder, given it or the run that made it."""
    return path / ARTIFACT if (path / ARTIFACT).is_dir() else path


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        SegueError: if it is missing, truncated or corrupt.
    """
    if not path.is_file():
        raise SegueError(f"{path}: no such weights file")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise SegueError(f"{path}: damaged weights file ({error}); copy or make it again") from error


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        SegueError: if it is missing or no JSON object.
    """
    try:
        values = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SegueError(f"{path}: not found, so this is no {what}; check the path") from error
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise SegueError(f"{path}: unreadable {what} description ({error})") from error
    if not isinstance(values, dict):
        raise SegueError(f"{path}: a JSON object was expected")
    return values


@contextmanager
def written_file(path: Path) -> Iterator[Path]:
    """A file to write beside `path`; it takes its place on success and vanishes on failure.

    Raises:
        SegueError: if the folder can't be written or the disk is full.
    """
    handle = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        handle = Path(name)
        os.close(descriptor)
        umask = os.umask(0)
        os.umask(umask)
        handle.chmod(0o666 & ~umask)
        yield handle
        sync(handle)
        handle.replace(path)
    except OSError as error:
        raise SegueError(f"{path}: can't be written ({error.strerror or error}); check folder and space") from error
    finally:
        if handle is not None:
            handle.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Find out before long work whether the file `path` can be written afterwards.

    Raises:
        SegueError: if it is a folder, or its own folder can't be made or written.
    """
    if path.is_dir():
        raise SegueError(f"{path}: a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise SegueError(f"{path}: can't be written ({error.strerror or error}); check folder and space") from error


@contextmanager
def written_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill beside `folder`; it takes its place on success and vanishes on failure.

    Raises:
        SegueError: if the place can't be written or the disk is full.
    """
    beside = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o777 & ~umask)
        yield beside
        for path in beside.rglob("*"):
            if path.is_file():
                sync(path)
        if folder.exists():
            old = beside.with_suffix(".old")
            folder.rename(old)
            try:
                beside.rename(folder)
            except OSError:
                old.rename(folder)
                raise
            shutil.rmtree(old)
        else:
            beside.rename(folder)
    except (OSError, SafetensorError) as error:
        detail = getattr(error, "strerror", None) or error
        raise SegueError(f"{folder}: can't be written ({detail}); check folder and space") from error
    finally:
        if beside is not None and beside.exists():
            shutil.rmtree(beside)


def sync(path: Path) -> None:
    """Push a file's bytes to the disk, so that a rename never exposes an empty one."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
