"""From semantic tokens to codes, all codebooks of a stretch at once: the other decoder behind segue.generate.acoustic.

Codebook by codebook, every masked frame is given a code; the surest are kept and the rest masked again, until none is
left. The first codebook takes several rounds, the later ones fewer. Codes that were there before stay as they are.

Shapes: semantic (B, T_s), codes (B, Q, T), both from the same instant on, where a frame of either begins.

Source: Borsos et al. 2023, SoundStorm (arXiv 2305.09636), sections 3.3 and 4; Chang et al. 2022, MaskGIT (arXiv
2202.04200), section 3.2, for the noise on confidence, which falls to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from segue.errors import SegueError
from segue.generate.acoustic import StageProgress
from segue.generate.sampling import Sampling, choose, rng_of, uniforms
from segue.lm.masking import iterations_a_level, masked_after, surest
from segue.lm.parallel import ParallelModel

SINGLE_TEMPERATURE = 0.8
"""Of codebooks that are filled in one round, unless less is asked for."""


@dataclass(frozen=True)
class Filling:
    """How masked codes are filled in.

    Attributes:
        iterations: rounds of codebook 0, 1, ...; the last number counts for all further ones. The paper's are (16, 1).
        sampling: how codes are drawn where a codebook has several rounds.
        single: how they are drawn where it has one. The paper takes the likeliest, which is louder and further off
            (docs/log.md).
        noise: Gumbel noise on the log-confidence in the first round; it falls linearly to none in the last.

    Raises:
        SegueError: if a number is out of range.
    """

    iterations: tuple[int, ...] = (16, 1)
    sampling: Sampling = field(default_factory=Sampling)
    single: Sampling = field(default_factory=lambda: Sampling(SINGLE_TEMPERATURE))
    noise: float = 1.0

    @classmethod
    def asked(cls, iterations: int, sampling: Sampling) -> Filling:
        """So many rounds of the first codebook and one of each other, none drawn more freely than `sampling`."""
        single = replace(sampling, temperature=min(SINGLE_TEMPERATURE, sampling.temperature))
        return cls((iterations, 1), sampling, single)

    def __post_init__(self) -> None:
        iterations_a_level(self.iterations, max(1, len(self.iterations)))
        if not 0 <= self.noise < float("inf"):
            raise SegueError(f"noise {self.noise}: 0 (the surest first) or more")


class Parallel:
    """A parallel decoder under way: an AcousticDecoder (segue.generate.acoustic).

    Args:
        model: the trained decoder; its device is where this runs.
        seeds: one a row; each row depends on its own seed alone.
        filling: how codes are filled in.
        window_frames: codec frames seen at once, context included; None for the training's crop.
        new_share: greatest share of a window that is new.

    Attributes:
        most_frames: codec frames that it makes well at once.
        context_frames: codec frames before them that it looks back on at most.

    Raises:
        SegueError: if the window has no room for a cut of context and a new one.
    """

    def __init__(
        self,
        model: ParallelModel,
        seeds: Sequence[int],
        filling: Filling | None = None,
        window_frames: int | None = None,
        new_share: float = 0.5,
    ) -> None:
        stage = model.stage
        self.model, self.filling = model, filling or Filling()
        self._rounds = iterations_a_level(self.filling.iterations, stage.target.num_codebooks)
        self._cut = stage.semantic_ratio // stage.target.ratio
        crop = stage.crop_frames // stage.target.ratio
        size = crop if window_frames is None else min(crop, window_frames) // self._cut * self._cut
        if size < 2 * self._cut or not 0 < new_share < 1:
            raise SegueError(
                f"window_frames {window_frames}, new_share {new_share}: at least {2 * self._cut} frames, and a share "
                "between 0 and 1"
            )
        self.most_frames = min(max(1, round(size * new_share / self._cut)) * self._cut, size - self._cut)
        self.context_frames = size - self.most_frames
        self._rngs = [rng_of(seed, "parallel") for seed in seeds]

    @torch.inference_mode()
    def extend(
        self,
        semantic: Tensor,
        codes: Tensor,
        frames: int,
        rows: Sequence[int] | None = None,
        on_progress: StageProgress | None = None,
    ) -> Tensor:
        """What follows `codes`.

        Args:
            semantic: (b, T_s) of `codes` and of the frames wanted; T_s = 0 to do without.
            codes: (b, Q, T) that are known; T may be 0.
            frames: codec frames wanted.
            rows: (b) the rows' own numbers: each draws from its own generator; None for all in order.
            on_progress: told "parallel", frames made and frames wanted.

        Returns:
            (b, Q, frames) on the CPU or where `codes` are.

        Raises:
            SegueError: if tokens and codes don't fit the model or each other.
        """
        rows = range(len(self._rngs)) if rows is None else rows
        known = codes.shape[-1]
        self._check(semantic, codes, frames, rows)
        device = self.model.table.device
        stage = self.model.stage
        made = torch.full((*codes.shape[:2], known + frames), self.model.mask, dtype=torch.long, device=device)
        made[..., :known] = codes.to(device)
        if not semantic.shape[1]:
            wanted = stage.prefix[0].frames((known + frames) * stage.target.ratio)
            semantic = semantic.new_full((codes.shape[0], wanted), stage.prefix[0].size)
        semantic = semantic.to(device)
        rngs = [self._rngs[row] for row in rows]
        for start, done, stop in self._windows(known, known + frames):
            first = start * stage.target.ratio // stage.prefix[0].ratio
            last = stage.prefix[0].frames(stop * stage.target.ratio)
            self._fill(semantic[:, first:last], made[..., start:stop], done - start, rngs)
            if on_progress is not None:
                on_progress("parallel", stop - known, frames)
        return made[..., known:].to(codes.device)

    def _windows(self, known: int, total: int) -> Iterator[tuple[int, int, int]]:
        """First frame, first new frame and one-past-last frame of each window; windows begin on a cut."""
        for done in range(known, total, self.most_frames):
            start = -(-max(0, done - self.context_frames) // self._cut) * self._cut
            yield start, done, min(done + self.most_frames, total)

    def _fill(self, semantic: Tensor, codes: Tensor, known: int, rngs: Sequence[torch.Generator]) -> None:
        """Fill a window's codes (b, Q, T) in place from frame `known` on."""
        new = codes.shape[-1] - known
        for level, rounds in enumerate(self._rounds):
            masked = torch.ones(codes.shape[0], new, dtype=torch.bool, device=codes.device)
            plan = masked_after(new, rounds)
            sampling = self.filling.sampling if len(plan) > 1 else self.filling.single
            draws = uniforms(rngs, len(plan) * 2 * new).to(codes.device).unflatten(1, (len(plan), 2, new))
            left = new
            for turn, stay in enumerate(plan):
                hidden = self.model(semantic, codes)[:, known:]
                logits = self.model.logits(hidden, level).float()
                if turn == 0 and not torch.isfinite(logits).all():
                    raise SegueError("parallel decoder: logits are not finite; its weights are damaged")
                drawn = choose(logits.flatten(0, 1), sampling, draws[:, turn, 0].reshape(-1, 1)).view(masked.shape)
                if stay:
                    confidence = logits.log_softmax(dim=-1).gather(-1, drawn[..., None])[..., 0]
                    gumbel = -torch.log(-torch.log(draws[:, turn, 1].clamp(1e-9, 1 - 1e-7)))
                    noise = self.filling.noise * (1 - (turn + 1) / len(plan))
                    fixed = surest(confidence + noise * gumbel, masked, left - stay)
                else:
                    fixed = masked
                codes[:, level, known:] = torch.where(fixed, drawn, codes[:, level, known:])
                masked, left = masked & ~fixed, stay

    def _check(self, semantic: Tensor, codes: Tensor, frames: int, rows: Sequence[int]) -> None:
        stage = self.model.stage
        units, target = stage.prefix[0], stage.target
        if frames < 1:
            raise SegueError(f"frames {frames}: ask for at least 1")
        if codes.ndim != 3 or codes.shape[:2] != (len(rows), target.num_codebooks):
            raise SegueError(
                f"parallel decoder: codes {tuple(codes.shape)}, expected ({len(rows)}, {target.num_codebooks}, T)"
            )
        needed = units.frames((codes.shape[-1] + frames) * target.ratio)
        if semantic.ndim != 2 or semantic.shape[0] != len(rows) or 0 < semantic.shape[1] < needed:
            raise SegueError(
                f"parallel decoder: semantic tokens {tuple(semantic.shape)}, expected ({len(rows)}, at least {needed})"
            )
        if not semantic.shape[1] and not stage.semantic_optional:
            raise SegueError(
                "the parallel decoder was never trained without semantic tokens, so it can't do without them; "
                "train it with --set without_semantic=0.1"
            )
        for name, values, size in (("codes", codes, target.size), ("semantic tokens", semantic, units.size)):
            low, high = (int(values.min()), int(values.max())) if values.numel() else (0, 0)
            if low < 0 or high >= size:
                raise SegueError(f"parallel decoder: {name} {low} to {high}; only 0 to {size - 1} exist")
