"""From semantic tokens to codes, stretch by stretch: the seam, and the paper's way, coarse stage then fine stage.

Shapes: semantic (b, T_s), codes (b, Q, T), both from the same instant on. T_s reaches beyond T as far as codes are
wanted, or is 0 where the decoder is left to itself.

Source: Borsos et al. 2022, AudioLM (arXiv 2209.03143), section III.C: what the stages are given, and the fine stage's
non-overlapping windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from segue.errors import SegueError
from segue.generate.run_stage import Progress, StageRunner
from segue.generate.sampling import rng_of, uniforms
from segue.generate.stages import Stages, StageSampling
from segue.lm.stage import Stage, Stream

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
    """The coarse stage, which looks back, then the fine stage, which does not.

    Given the coarse codes, fine ones are taken to depend on their surroundings alone: the fine stage goes through
    windows that know nothing of each other, all at once.

    Args:
        stages: the language models.
        sampling: how freely they draw.
        seeds: one a row.
        engine: that decodes, and its weights.
        codebooks: (Q, size, W) the codec's vectors, by which the fine stage chooses at temperature 0; None to take the
            likeliest codes.
    """

    def __init__(
        self,
        stages: Stages,
        sampling: StageSampling,
        seeds: Sequence[int],
        engine: tuple[str | None, str | None] = (None, None),
        codebooks: Tensor | None = None,
    ) -> None:
        target = stages.fine.stage.target
        vectors = None if codebooks is None else codebooks[target.first_codebook :][: target.num_codebooks]
        self._coarse = StageRunner(stages.coarse, sampling.coarse, engine=engine, guidance=sampling.guidance)
        self._fine = StageRunner(stages.fine, sampling.fine, engine=engine, vectors=vectors)
        self._rngs = {name: [rng_of(seed, name) for seed in seeds] for name in ("coarse", "fine")}
        cut, crop = _frames(stages.coarse.stage)
        even = cut * math.ceil(crop / 2 / _frames(stages.fine.stage)[1])  # so that fine windows are equally long
        self.context_frames = crop
        self.most_frames = max(cut, crop // 2 // even * even)

    def extend(
        self,
        semantic: Tensor,
        codes: Tensor,
        frames: int,
        rows: Sequence[int],
        on_progress: StageProgress | None = None,
    ) -> Tensor:
        streams = {"semantic": semantic[:, None]}
        coarse, fine = self._coarse.model.stage, self._fine.model.stage
        for stage in (coarse, fine):
            has_semantic = any(stream.name == "semantic" for stream in stage.prefix)
            if not semantic.shape[1] and has_semantic and not stage.semantic_optional:
                raise SegueError(
                    f"the {stage.name} stage was never trained without semantic tokens, so it can't do without them; "
                    "train it with --set without_semantic=0.1"
                )
        known, begin = codes[:, : coarse.target.num_codebooks], codes.shape[-1]
        draws = self._draws(coarse, frames, rows)
        told = _named(on_progress, "coarse")
        streams["coarse"] = self._coarse.run(streams, known, begin + frames, draws, on_progress=told).tokens
        made, cut, crop = [], *_frames(fine)
        draws = self._draws(fine, frames, rows)
        width = math.ceil(frames / math.ceil(frames / crop) / cut) * cut
        for first, size in ((0, width), (frames // width * width, frames % width)):
            count = (frames - first) // size if size else 0
            if count:
                cells = draws[:, first * fine.target.num_codebooks :][:, : count * size * fine.target.num_codebooks]
                prefix = {
                    stream.name: _cut(streams[stream.name], stream, fine.target, begin + first, size, count)
                    for stream in fine.prefix
                }
                nothing = codes.new_zeros(len(rows) * count, fine.target.num_codebooks, 0)
                told = _named(on_progress, "fine", first, count)
                result = self._fine.run(prefix, nothing, size, cells.reshape(len(rows) * count, -1), on_progress=told)
                made.append(result.tokens.unflatten(0, (-1, count)).transpose(1, 2).flatten(2))
        return torch.cat([streams["coarse"][..., begin:], torch.cat(made, dim=-1)], dim=1)

    def _draws(self, stage: Stage, frames: int, rows: Sequence[int]) -> Tensor:
        return uniforms([self._rngs[stage.name][row] for row in rows], frames * stage.target.num_codebooks)


def _frames(stage: Stage) -> tuple[int, int]:
    """Codec frames of a cut and of a crop of an acoustic stage."""
    return stage.semantic_ratio // stage.target.ratio, stage.crop_frames // stage.target.ratio


def _cut(codes: Tensor, stream: Stream, target: Stream, begin: int, size: int, count: int) -> Tensor:
    """A stream (b, Q, T) as `count` windows of `size` target frames from target frame `begin` on: (b * count, Q, t)."""
    if codes.shape[-1] == 0:
        return codes.repeat_interleave(count, dim=0)
    first, frames = begin * target.ratio // stream.ratio, size * target.ratio // stream.ratio
    return codes[..., first:][..., : count * frames].unflatten(-1, (count, frames)).transpose(1, 2).flatten(0, 1)


def _named(on_progress: StageProgress | None, name: str, before: int = 0, each: int = 1) -> Progress | None:
    """Progress of one stage; it begins after `before` frames and makes `each` frames at once."""
    return None if on_progress is None else lambda done, total: on_progress(name, before + each * done, total)
