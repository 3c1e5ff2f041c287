"""How every benchmark begins and ends: a typer command whose mistakes cost one line, and figures written at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from segue.artifact import written_file
from segue.errors import SegueError


def begin(main: Callable[..., None]) -> None:
    """Run a benchmark's command; what the caller can mend is a line, and exit code 2."""
    try:
        typer.run(main)
    except SegueError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        sys.exit(2)


def write_json(path: Path, figures: Any) -> None:
    """Write figures; the file is there when all of it is."""
    with written_file(path) as beside:
        beside.write_text(json.dumps(figures, indent=1) + "\n")
