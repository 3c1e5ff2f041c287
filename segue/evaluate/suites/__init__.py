"""The suites by name; each is a file of this folder with a function `run(context) -> Section`."""

from __future__ import annotations

import importlib

from segue.errors import SegueError
from segue.evaluate.suite import Suite

SUITES = ("codec", "tokens", "lm", "acoustic", "continuation", "baselines", "detector")


def suite(name: str) -> Suite:
    """A suite, imported when it is asked for.

    Raises:
        SegueError: if there is none of that name.
    """
    if name not in SUITES:
        raise SegueError(f"suite {name}: one of {', '.join(SUITES)}")
    run: Suite = importlib.import_module(f"segue.evaluate.suites.{name}").run
    return run
