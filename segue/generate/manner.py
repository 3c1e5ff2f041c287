"""How a bundle makes sound unless something else is asked for: what `bundle.json` tells beside the parts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segue.errors import SegueError
from segue.generate.continuation import DECODERS, Decoder
from segue.generate.tries import MOST_TRIES

TRIED_SECONDS, TRIED_ROWS = 30.0, 64


@dataclass(frozen=True)
class Manner:
    """The bundle's own choices.

    Attributes:
        temperature: of the semantic, coarse and fine stage. The defaults are the paper's (arXiv 2209.03143, IV.B).
        guidance: of the coarse stage, see `segue.generate.guidance`; 1 for none.
        decoder: `ar` or `parallel`.
        tries: of which the most fitting one is kept, see `segue.generate.tries`.
    """

    temperature: tuple[float, float, float] = (0.6, 0.8, 0.6)
    guidance: float = 1.0
    decoder: Decoder = "ar"
    tries: int = 1

    def tries_for(self, seconds: float, num: int = 1) -> int:
        """Tries of each of `num` continuations of so many seconds that are made at once; one where memory is dear.

        It is so beyond 30 s, and beyond 64 rows of a batch.
        """
        return self.tries if seconds <= TRIED_SECONDS and num * self.tries <= TRIED_ROWS else 1

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "temperature": list(self.temperature),
            "guidance": self.guidance,
            "decoder": self.decoder,
            "tries": self.tries,
        }

    @classmethod
    def read(cls, description: Mapping[str, Any], place: object, has_parallel: bool) -> Manner:
        """What a bundle's description tells.

        Args:
            description: of the bundle; what it does not name is as by default.
            place: of it, for messages.
            has_parallel: whether the bundle has a parallel decoder.

        Raises:
            SegueError: if a value can't be.
        """
        usual = cls()
        heat = description.get("temperature", list(usual.temperature))
        if not (isinstance(heat, list) and len(heat) == 3 and all(map(_is_amount, heat))):
            raise SegueError(f"{place}: temperature {heat}: three numbers from 0 on, such as [0.6, 0.8, 0.6]")
        guidance = description.get("guidance", usual.guidance)
        if not _is_amount(guidance):
            raise SegueError(f"{place}: guidance {guidance!r}: a number from 0 on, such as 1.0 (none) or 3.0")
        decoder: Decoder | None = next((name for name in DECODERS if name == description.get("decoder", "ar")), None)
        if decoder is None or (decoder == "parallel" and not has_parallel):
            raise SegueError(f"{place}: decoder {description['decoder']!r}: ar, or parallel where there is one")
        tries = description.get("tries", usual.tries)
        if type(tries) is not int or not 1 <= tries <= MOST_TRIES:
            raise SegueError(f"{place}: tries {tries!r}: a whole number from 1 to {MOST_TRIES}")
        return cls((float(heat[0]), float(heat[1]), float(heat[2])), float(guidance), decoder, tries)


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
