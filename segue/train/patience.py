"""Early stopping: which step had the lowest held-out loss, and whether it is worth while to wait for a lower one."""

from __future__ import annotations

import math
from typing import Any


class Patience:
    """What the validations of a run have shown since there was a limit.

    Args:
        limit: validations in a row without a new lowest loss that end the run; 0 never ends it and looks for no lowest.

    Attributes:
        lowest_step: steps done when the held-out loss was lowest; None before the first validation.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lowest, self._waited = math.inf, 0
        self.lowest_step: int | None = None

    def is_lowest(self, step: int, loss: float) -> bool:
        """Take in a validation after `step` steps; whether its loss is lower than all before."""
        if not self._limit:
            return False
        if not loss < self._lowest:  # as no number is, if it is none
            self._waited += 1
            return False
        self._lowest, self._waited, self.lowest_step = loss, 0, step
        return True

    @property
    def is_over(self) -> bool:
        """Whether the limit is reached."""
        return 0 < self._limit <= self._waited

    @property
    def note(self) -> str:
        """What is kept, and why no more is trained."""
        if self.lowest_step is None:
            return f"no held-out loss of {self._waited} validations was a number; the last weights are kept"
        return (
            f"the held-out loss has not fallen below {self._lowest:.5g} for {self._waited} validations; the "
            f"weights of step {self.lowest_step} are kept"
        )

    def state_dict(self) -> dict[str, Any]:
        lowest = None if self.lowest_step is None else self._lowest
        return {"lowest": lowest, "lowest_step": self.lowest_step, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; without a limit, from nothing."""
        if self._limit:
            self.lowest_step, self._waited = state["lowest_step"], state["waited"]
            self._lowest = math.inf if self.lowest_step is None else state["lowest"]
