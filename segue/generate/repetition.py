"""How much of what was made was said before: the share of n-grams of semantic tokens that are repeats.

tokens (T,) -> share in [0, 1]. Language models that are drawn from too greedily fall into loops; this shows it.

Source: Holtzman et al. 2020, The Curious Case of Neural Text Degeneration (arXiv 1904.09751), section 5.
"""

from __future__ import annotations

from torch import Tensor

NGRAM = 4
LOOPS_FROM = 0.5
"""Above this share a listener hears a loop."""


class Repetition:
    """Counts over a stream of tokens; tokens that merely last (repeats in a row) count once.

    Args:
        n: length of the n-grams.
    """

    def __init__(self, n: int = NGRAM) -> None:
        self._n = n
        self._seen: set[tuple[int, ...]] = set()
        self._last: tuple[int, ...] = ()
        self._count = 0

    def add(self, tokens: Tensor) -> None:
        """Count the next tokens (T,)."""
        for token in tokens.tolist():
            if self._last and token == self._last[-1]:
                continue
            self._last = (*self._last, token)[-self._n :]
            if len(self._last) == self._n:
                self._seen.add(self._last)
                self._count += 1

    @property
    def share(self) -> float:
        """Of n-grams that had come before; 0 for fewer than one."""
        return 1 - len(self._seen) / self._count if self._count else 0.0
