"""What a scorer is: other people's package behind one call, which can tell why it can't be had.

wave (n,) float32 numpy, mono at the scorer's sample rate -> a value that JSON can hold: a number, numbers by name, an
embedding, text, notes. A scorer is made when it is first needed; nothing is imported before.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, final

Kind = Literal["speech", "piano"]
EVAL = 'pip install "segue[eval]"'
"""The command that installs what most scorers need."""


class Tool(Protocol):
    """A scorer, ready.

    Args:
        waves: one, or for measures against a reference the original and what was made of it.
        settings: whatever else the value depends on; it is part of what kept results are found by.
    """

    def __call__(self, *waves: Any, **settings: Any) -> Any: ...


@final
@dataclass(frozen=True)
class Scorer:
    """A measure and the packages that take it.

    Attributes:
        name: of the measure.
        packages: distributions whose versions its values depend on; none for a formula.
        install: the command that installs them.
        sample_rate: that its waves must have, in Hz.
        make: makes it; raises ImportError, SegueError or Warning where it can't be used.
        least_seconds: of a wave that it can be asked about.
        setting: whatever else its values depend on, such as a mode or which weights are used.
    """

    name: str
    packages: tuple[str, ...]
    install: str
    sample_rate: int
    make: Callable[[], Tool]
    least_seconds: float = 0.5
    setting: str = ""

    def versions(self) -> dict[str, str]:
        """Of its packages.

        Raises:
            ImportError: naming the one that is not installed.
        """
        found = {}
        for package in self.packages:
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError as error:
                raise ImportError(f"{package} is not installed") from error
        return found

    def why_not(self, error: Exception) -> str:
        """That it can't be used, and what mends it."""
        reason = str(error) or type(error).__name__
        return reason if not self.install or self.install in reason else f"{reason}; {self.install}"
