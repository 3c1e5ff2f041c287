"""What a caller may ask for, by name, wherever sound is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from segue.errors import SegueError
from segue.generate.acoustic import StageProgress
from segue.generate.continuation import ITERATIONS, Decoder, Settings, System
from segue.generate.manner import Manner
from segue.generate.sampling import Sampling
from segue.generate.stages import StageSampling
from segue.generate.tries import MOST_TRIES

MOST_AT_ONCE = 1000
"""Rows of a batch; what a slip of the pen asks for is refused before memory runs out."""


class Options(TypedDict, total=False):
    """How sound is made; all of it may be left out.

    Keys:
        seed: of the first row, 0 by default; row i has seed + i and does not depend on `num`.
        num: rows to make, 1 by default.
        temperature: of the semantic, coarse and fine stage; 0 always takes the likeliest token, in the fine stage the
            code of the least error to be expected. The bundle's own by default.
        guidance: how closely the coarse stage follows prompt and semantic tokens, see `segue.generate.guidance`: 1 as
            it was trained, more for closer, at twice that stage's compute; the bundle's own by default.
        top_k: draw among the k likeliest tokens only, in every stage.
        top_p: draw among the likeliest tokens that together have this probability, in every stage.
        stop_at_end: stop early where the semantic stage says that the clip is over.
        system: `full` by default; `acoustic-only` and `semantic-only` are the paper's baselines.
        decoder: `ar` (coarse stage, fine stage) or `parallel`; the bundle's own by default.
        iterations: rounds of the parallel decoder's first codebook, 4 by default.
        engine: that decodes the stages: `native`, `torch`, `static`, `compiled`; by default what is fastest here (see
            segue.lm.decoder).
        weights: of the stages: `float32`, `int8`, `bfloat16`; by default what suits the engine.
        tries: to make for each row, of which the most fitting one is kept (see segue.generate.tries), once all are
            made. 1 by default; `continue_audio` has the bundle's own, of up to 30 s and where they are 64 in all.
        on_progress: told stage, frames made and frames wanted.
    """

    seed: int
    num: int
    temperature: Sequence[float] | None
    guidance: float | None
    top_k: int | None
    top_p: float | None
    stop_at_end: bool
    system: System
    decoder: Decoder | None
    iterations: int
    engine: str | None
    weights: str | None
    tries: int | None
    on_progress: StageProgress | None


def check_num(num: int, tries: int = 1) -> None:
    """Refuse no rows, and more than a batch can hold.

    Raises:
        SegueError: if rows are not 1 to 1000, tries not 1 to 100, or both together more than 1000.
    """
    if not 1 <= num <= MOST_AT_ONCE:
        raise SegueError(f"num {num}: 1 to {MOST_AT_ONCE} at once")
    if not 1 <= tries <= MOST_TRIES:
        raise SegueError(f"tries {tries}: 1 to {MOST_TRIES}")
    if num * tries > MOST_AT_ONCE:
        raise SegueError(f"num {num} of {tries} tries each: {MOST_AT_ONCE} at once; ask for fewer of either")


def settings_of(options: Options, manner: Manner) -> Settings:
    """The settings that options mean, with the bundle's own where they name none.

    Raises:
        SegueError: if one is out of range.
    """
    chosen = options.get("temperature")
    chosen = manner.temperature if chosen is None else chosen
    if len(chosen) != 3:
        raise SegueError(f"temperature {tuple(chosen)}: give three, for semantic, coarse and fine stage")
    seed, num = options.get("seed", 0), options.get("num", 1)
    asked = options.get("tries")
    tries = 1 if asked is None else asked
    check_num(num, tries)
    guidance = options.get("guidance")
    semantic, coarse, fine = (Sampling(float(value), options.get("top_k"), options.get("top_p")) for value in chosen)
    return Settings(
        seeds=range(seed, seed + num),
        sampling=StageSampling(semantic, coarse, fine, manner.guidance if guidance is None else guidance),
        system=options.get("system", "full"),
        decoder=options.get("decoder") or manner.decoder,
        iterations=options.get("iterations", ITERATIONS),
        engine=(options.get("engine"), options.get("weights")),
        stop_at_end=options.get("stop_at_end", False),
        tries=tries,
        on_progress=options.get("on_progress"),
    )
