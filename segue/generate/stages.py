"""The three language models of a bundle, and how freely each of them draws."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from segue.errors import SegueError
from segue.generate.sampling import Sampling
from segue.lm.model import StageModel


@dataclass(frozen=True)
class Stages:
    """The three language models of a bundle.

    Raises:
        SegueError: if a stage is in another's place, or they don't speak of the same tokens.
    """

    semantic: StageModel
    coarse: StageModel
    fine: StageModel

    def __post_init__(self) -> None:
        models = {"semantic": self.semantic, "coarse": self.coarse, "fine": self.fine}
        targets = {name: model.stage.target for name, model in models.items()}
        for name, model in models.items():
            if model.stage.name != name:
                raise SegueError(f"the {model.stage.name} stage stands in the {name} stage's place; exchange them")
            for stream in model.stage.prefix:
                if stream != targets[stream.name]:
                    raise SegueError(f"the {name} stage expects {stream}, but the bundle has {targets[stream.name]}")
        if targets["fine"].first_codebook != targets["coarse"].num_codebooks:
            raise SegueError("the fine stage does not begin where the coarse stage ends; train them together")


@dataclass(frozen=True)
class StageSampling:
    """How freely each stage draws. The defaults are the paper's temperatures (arXiv 2209.03143, IV.B).

    Attributes:
        semantic: temperature and the like of the semantic stage.
        coarse: of the coarse stage.
        fine: of the fine stage.
        guidance: of the coarse stage, see `segue.generate.guidance`; 1 for none.

    Raises:
        SegueError: on a guidance below 0.
    """

    semantic: Sampling = field(default_factory=lambda: Sampling(0.6))
    coarse: Sampling = field(default_factory=lambda: Sampling(0.8))
    fine: Sampling = field(default_factory=lambda: Sampling(0.6))
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise SegueError(f"guidance {self.guidance}: use 1 (none) or more, such as 3; 0 leaves out what is told")
