"""From semantic tokens to codes, stretch by stretch: the seam, and the paper's way, coarse stage then fine stage.

Shapes: semantic (b, T_s), codes (b, Q, T), both from the same instant on. T_s reaches beyond T as far as codes are
wanted, or is 0 where the decoder is left to itself.

Source: Borsos et al. 2022, AudioLM (arXiv 2209.03143), section III.C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from segue.errors import SegueError
from segue.generate.run_stage import Progress, StageRunner
from segue.generate.sampling import rng_of, uniforms
from segue.generate.stages import Stages, StageSampling

StageProgress = Callable[[str, int, int], None]


class AcousticDecoder(Protocol):
    """Makes the codes of a stretch of time.

    Attributes:
        most_frames: codec frames that it makes well at once.
        context_frames: codec frames before them that it looks back on at most.
    """

    most_frames: int
    context_frames: int

    def extend(
        self, semantic: Tensor, codes: Tensor, frames: int, rows: Sequence[int], on_progress: StageProgress | None
    ) -> Tensor:
        """What follows `codes`.

        Args:
            semantic: (b, T_s) of the context and of the frames wanted; T_s = 0 to do without.
            codes: (b, Q, T) the context; T may be 0.
            frames: codec frames wanted, a whole number of cuts.
            rows: (b) the rows' own numbers: each draws from its own generator.
            on_progress: told stage, frames made and frames wanted.

        Returns:
            (b, Q, frames).
        """


class Autoregressive:
    """The coarse stage, then the fine stage.

    Args:
        stages: the language models.
        sampling: how freely they draw.
        seeds: one a row.
    """

    def __init__(self, stages: Stages, sampling: StageSampling, seeds: Sequence[int]) -> None:
        self._runners = [StageRunner(stages.coarse, sampling.coarse), StageRunner(stages.fine, sampling.fine)]
        self._rngs = [[rng_of(seed, runner.model.stage.name) for seed in seeds] for runner in self._runners]
        coarse = stages.coarse.stage
        cut, crop = coarse.semantic_ratio // coarse.target.ratio, coarse.crop_frames // coarse.target.ratio
        self.context_frames = crop
        self.most_frames = max(cut, crop // 2 // cut * cut)

    def extend(
        self,
        semantic: Tensor,
        codes: Tensor,
        frames: int,
        rows: Sequence[int],
        on_progress: StageProgress | None = None,
    ) -> Tensor:
        streams, made = {"semantic": semantic[:, None]}, []
        for runner, rngs in zip(self._runners, self._rngs, strict=True):
            stage = runner.model.stage
            if not semantic.shape[1] and not stage.semantic_optional and "semantic" in [s.name for s in stage.prefix]:
                raise SegueError(
                    f"the {stage.name} stage was never trained without semantic tokens, so it can't do without them; "
                    "train it with --set without_semantic=0.1"
                )
            target = stage.target
            known = codes[:, target.first_codebook :][:, : target.num_codebooks]
            draws = uniforms([rngs[row] for row in rows], frames * target.num_codebooks)
            total = known.shape[-1] + frames
            result = runner.run(streams, known, total, draws, on_progress=_named(on_progress, stage.name))
            streams[stage.name] = result.tokens
            made.append(result.tokens[..., -frames:])
        return torch.cat(made, dim=1)


def _named(on_progress: StageProgress | None, name: str) -> Progress | None:
    return None if on_progress is None else lambda done, total: on_progress(name, done, total)
