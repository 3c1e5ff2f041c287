"""How near a made wave is to its original, by every measure that a bench has.

original (n,), made (n,) at one sample rate -> scores by name, NaN where a scorer gave none for this sound.
"""

from __future__ import annotations

import math

from torch import Tensor

from segue.evaluate.bench import Bench

OF_PAIRS = ("pesq", "stoi", "visqol", "si_sdr")
OF_ONE = ("distillmos",)
SIMILARITY = "speaker_similarity"


def fidelity(bench: Bench, original: Tensor, made: Tensor) -> dict[str, float]:
    """Every measure by name; what a missing scorer measures is left out."""
    found = {name: bench.number(name, original, made) for name in OF_PAIRS if bench.has(name)}
    found |= {name: bench.number(name, made) for name in OF_ONE if bench.has(name)}
    if bench.has("voice"):
        one, two = bench.vector("voice", original), bench.vector("voice", made)
        found[SIMILARITY] = math.nan if one is None or two is None else float(one @ two)
    gone = {SIMILARITY if name == "voice" else name for name in bench.missing}
    return {name: value for name, value in found.items() if name not in gone}
