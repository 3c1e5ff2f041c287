"""Which packages are installed, and in what version."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable


def versions(names: Iterable[str]) -> dict[str, str]:
    """Version by name, of those distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def installed(name: str) -> bool:
    """Whether a distribution is there."""
    return bool(versions([name]))
