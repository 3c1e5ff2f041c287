"""Early stopping: which step had the lowest held-out loss, and whether it is worth while to wait for a lower one."""

from __future__ import annotations

from typing import Any


class Patience:
    """What the validations of a run have shown so far.

    Args:
        limit: validations in a row without a new lowest loss that end the run; 0 never ends it and looks for no lowest.

    Attributes:
        lowest_step: steps done when the held-out loss was lowest; None before the first validation.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lowest: float | None = None
        self._waited = 0
        self.lowest_step: int | None = None

    def is_lowest(self, step: int, loss: float) -> bool:
        """Take in a validation after `step` steps; whether its loss is lower than all before."""
        if not self._limit:
            return False
        if self._lowest is not None and loss >= self._lowest:
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
        return (
            f"the held-out loss has not fallen below {self._lowest:.5g} for {self._waited} validations; the "
            f"weights of step {self.lowest_step} are kept"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"lowest": self._lowest, "lowest_step": self.lowest_step, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._lowest, self.lowest_step, self._waited = state["lowest"], state["lowest_step"], state["waited"]
