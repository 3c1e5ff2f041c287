"""Benchmarks and other scripts as modules: they find each other because they lie in one folder."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"
BUNDLED = Path(__file__).parents[1] / "scripts" / "bundled"


def load(name: str, folder: Path = FOLDER) -> types.ModuleType:
    """The script `name`.py, a benchmark unless another folder is given, loaded anew."""
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module
