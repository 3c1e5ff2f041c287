"""Fixtures that tests share; the values behind them are in tiny.py."""

from __future__ import annotations

import os
import resource
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import soundfile
import tiny
import torch

from segue.bundle import Bundle, load


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def exact_weights() -> None:
    """Decoding as the model says, to the last digits; tests of eight bits ask for them."""
    os.environ["SEGUE_WEIGHTS"] = "float32"


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle on disk; don't write into it."""
    return tiny.make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def bundle(bundle_folder: Path) -> Bundle:
    return load(bundle_folder)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WAV file of 1.5 s at 16 kHz, mono."""
    path = tmp_path_factory.mktemp("sounds") / "speech.wav"
    soundfile.write(path, tiny.sound(1.5), tiny.RATE)
    return path


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """`cli("info", folder)` runs the command line in this process, as `segue info FOLDER` would."""
    from segue.cli import main

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["segue", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        return Outcome(code, *capsys.readouterr())

    with warnings.catch_warnings():
        yield run


@pytest.fixture(scope="session")
def child_environment() -> dict[str, str]:
    """For a real process: this checkout and one thread."""
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), str(root / "tests")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def small_disk() -> Callable[[], AbstractContextManager[None]]:
    """Within, no file can grow beyond 4 KiB, as if the disk were full."""

    @contextmanager
    def limited() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
