"""Compiling the native step at first use, and loading it.

The library is kept in the user's cache folder under a hash of everything it depends on: sources, compiler, options and
processor. It is written beside its place and renamed, so two processes that begin at once do no harm. Whatever goes
wrong is a reason, not an error: there is an engine that needs no compiler.

Environment: CXX, a C++ compiler to use instead of g++ or clang++; XDG_CACHE_HOME, instead of ~/.cache.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from segue.errors import SegueError

SOURCES = tuple(Path(__file__).with_name(name) for name in ("step.cpp", "product.h"))
OPTIONS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-shared", "-fPIC")
SECONDS = 120


@dataclass(frozen=True)
class Library:
    """The compiled step.

    Attributes:
        handle: with `segue_step`, `segue_rows`, `segue_dot`, `segue_lanes` and `segue_parallel`.
        compiler: first line of what the compiler says of itself.
        dot: how it multiplies eight bits: 2 by an instruction made for it, 1 by older ones, 0 by plain arithmetic.
        lanes: rows of a panel's block.
        parallel: whether it can use several threads.
    """

    handle: ctypes.CDLL
    compiler: str
    dot: int
    lanes: int
    parallel: bool


def library() -> tuple[Library | None, str]:
    """The compiled step, or None and why there is none. Asked once, it is remembered for the process."""
    return _library(os.environ.get("CXX"), os.environ.get("XDG_CACHE_HOME"))


@functools.cache
def _library(compiler: str | None, cache: str | None) -> tuple[Library | None, str]:
    try:
        folder = (Path(cache) if cache else Path.home() / ".cache") / "segue"
        return build(folder, compiler), ""
    except SegueError as error:
        return None, str(error)
    except RuntimeError:  # of Path.home
        return None, "no home folder to keep it in; set XDG_CACHE_HOME"


def build(folder: Path, compiler: str | None = None, target: str = "native") -> Library:
    """Compile the step, unless that was done before, and load it.

    Args:
        folder: where libraries are kept.
        compiler: to use; None for g++ or clang++, whichever there is.
        target: processor to compile for, as the compiler's `-march` names it.

    Raises:
        SegueError: if there is no compiler, it fails, or the folder can't be written.
    """
    path = shutil.which(compiler) if compiler else shutil.which("g++") or shutil.which("clang++")
    if path is None:
        raise SegueError(f"no C++ compiler: {compiler or 'neither g++ nor clang++'} found")
    try:
        version = _run([path, "--version"]).stdout.partition("\n")[0]
        key = "\n".join([version, path, target, _processor(), *OPTIONS, *(source.read_text() for source in SOURCES)])
        file = folder / f"step-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _compile([path, *OPTIONS, f"-march={target}"], file)
        handle = ctypes.CDLL(str(file))
    except (OSError, subprocess.SubprocessError) as error:
        raise SegueError(f"the C++ compiler or its cache folder {folder} can't be used: {error}") from error
    for name in ("segue_dot", "segue_lanes", "segue_parallel"):
        getattr(handle, name).restype = ctypes.c_int64
    return Library(handle, version, handle.segue_dot(), handle.segue_lanes(), bool(handle.segue_parallel()))


def _compile(command: list[str], file: Path) -> None:
    """With OpenMP where the compiler has it."""
    with tempfile.TemporaryDirectory(dir=file.parent, prefix="building-") as beside:
        made = Path(beside) / file.name
        for threads in (["-fopenmp"], []):
            result = _run([*command, *threads, "-o", str(made), str(SOURCES[0])])
            if result.returncode == 0 and made.is_file():
                os.replace(made, file)
                return
    complaint = next((line for line in result.stderr.splitlines() if "error" in line), result.stderr.strip()[-200:])
    raise SegueError(f"{Path(command[0]).name} can't compile the native step: {complaint or 'no library was written'}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)


def _processor() -> str:
    """What tells processors apart that a library for one of them may not run on another."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    facts = dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features")))
    return "\n".join([platform.machine(), platform.processor(), *facts])
