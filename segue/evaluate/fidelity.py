"""How near a made wave is to its original, by every measure that a bench has.

original (n,), made (n,) at one sample rate -> scores by name, NaN where a scorer gave none for this sound.
"""

from __future__ import annotations

import math

from torch import Tensor

from segue.evaluate.bench import Bench
from segue.units import seconds_to_samples

OF_PAIRS = ("pesq", "stoi", "visqol", "si_sdr")
OF_ONE = ("distillmos",)
QUALITY_SECONDS = 7.6
"""Of a wave that DistillMOS is asked about: its model hears 7.68 s, and goes over longer sound a second at a time."""
SIMILARITY = "speaker_similarity"


def quality(bench: Bench, wave: Tensor) -> dict[str, float]:
    """Of a wave (n,) by itself, of its first 7.6 s."""
    heard = wave[: seconds_to_samples(QUALITY_SECONDS, bench.sample_rate)]
    return {name: bench.number(name, heard) for name in OF_ONE if bench.has(name)}


def fidelity(bench: Bench, original: Tensor, made: Tensor) -> dict[str, float]:
    """Every measure by name; what a missing scorer measures is left out."""
    found = {name: bench.number(name, original, made) for name in OF_PAIRS if bench.has(name)}
    found |= quality(bench, made)
    if bench.has("voice"):
        one, two = bench.vector("voice", original), bench.vector("voice", made)
        found[SIMILARITY] = math.nan if one is None or two is None else float(one @ two)
    gone = {SIMILARITY if name == "voice" else name for name in bench.missing}
    return {name: value for name, value in found.items() if name not in gone}
