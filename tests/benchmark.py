"""The benchmarks as modules: scripts that find each other because they lie in one folder."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name: str) -> types.ModuleType:
    """The benchmark `name`.py, loaded anew."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module
