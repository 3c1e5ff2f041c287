"""Where the semantic tokens of what is made come from: from the semantic stage, or from a recording.

A source is asked for more and more tokens, so that sound can be made of the first before the last are drawn.

Shapes: prompt (T_p,), tokens (B, T) at the semantic frame rate, counted from the prompt's end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from segue.generate.run_stage import Progress, StageRunner
from segue.generate.sampling import Sampling, rng_of, uniforms
from segue.lm.model import StageModel

TYPICAL_FRAMES_A_UNIT = 1.5
"""Frames that a token without its repeats lasts where no prompt says it: about that of 25 Hz tokens of speech."""


class SemanticSource(Protocol):
    """Semantic tokens on demand.

    Attributes:
        ended: for each row whether it stopped by itself.
    """

    @property
    def ended(self) -> tuple[bool, ...]: ...

    def up_to(self, count: int) -> tuple[Tensor, list[int]]:
        """The first `count` tokens (B, count) of every row, and how many of them each row has; the rest are 0."""


class Recorded:
    """The tokens of a recording, the same for every row.

    Args:
        tokens: (T,).
        rows: B.
    """

    def __init__(self, tokens: Tensor, rows: int) -> None:
        self._tokens, self._rows = tokens, rows

    @property
    def ended(self) -> tuple[bool, ...]:
        return (False,) * self._rows

    def up_to(self, count: int) -> tuple[Tensor, list[int]]:
        assert count <= self._tokens.shape[0], (count, self._tokens.shape)
        return self._tokens[:count].expand(self._rows, -1), [count] * self._rows


class Nothing:
    """No semantic tokens at all: the acoustic stages are left to themselves."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    @property
    def ended(self) -> tuple[bool, ...]:
        return (False,) * self._rows

    def up_to(self, count: int) -> tuple[Tensor, list[int]]:
        return torch.zeros(self._rows, 0, dtype=torch.long), [count] * self._rows


class Continued:
    """What the semantic stage says after a prompt, or after nothing.

    A stage without repeats makes units, not frames. Each unit then lasts as long as the prompt's mean unit does.

    Args:
        model: the semantic stage.
        prompt: (T_p,); T_p may be 0.
        count: most tokens that will be asked for.
        sampling: how they are drawn.
        seeds: one a row.
        stop_at_end: let a row end early, with a whole multiple of `multiple` tokens.
        multiple: see `stop_at_end`.
        engine: that decodes, and its weights.
        on_progress: called with the tokens made and wanted.
    """

    def __init__(
        self,
        model: StageModel,
        prompt: Tensor,
        count: int,
        sampling: Sampling,
        seeds: Sequence[int],
        *,
        stop_at_end: bool = False,
        multiple: int = 1,
        engine: tuple[str | None, str | None] = (None, None),
        on_progress: Progress | None = None,
    ) -> None:
        stage = model.stage
        units = torch.unique_consecutive(prompt) if stage.deduplicate_semantic else prompt
        typical = TYPICAL_FRAMES_A_UNIT if stage.deduplicate_semantic else 1.0
        self._frames_a_unit = prompt.shape[0] / units.shape[0] if units.shape[0] else typical
        self._known, self._multiple = units.shape[0], multiple
        wanted = self._units(count)
        self._run = StageRunner(model, sampling, engine=engine).start(
            {},
            units.expand(len(seeds), 1, -1),
            self._known + wanted,
            uniforms([rng_of(seed, stage.name) for seed in seeds], wanted),
            end_from=self._known + 1 if stop_at_end else None,
            window_frames=max(2, round(stage.crop_frames / stage.target.ratio / self._frames_a_unit)),
            on_progress=on_progress,
        )

    @property
    def ended(self) -> tuple[bool, ...]:
        return tuple(end is not None for end in self._run.ended_at)

    def up_to(self, count: int) -> tuple[Tensor, list[int]]:
        self._run.advance(self._known + self._units(count))
        made = self._run.tokens[:, 0, self._known : max(self._run.done, self._known)]
        lasting = self._first_frame(torch.arange(made.shape[1] + 1, device=made.device)).diff()
        spread = made.repeat_interleave(lasting, dim=1)[:, :count]
        tokens = spread.new_zeros(spread.shape[0], count)
        tokens[:, : spread.shape[1]] = spread
        lengths = []
        for row, end in enumerate(self._run.ended_at):
            own = count if end is None else min(count, int(self._first_frame(torch.tensor(end - self._known))))
            lengths.append(own - (own % self._multiple if end is not None else 0))
            tokens[row, lengths[-1] :] = 0
        return tokens, lengths

    def _units(self, frames: int) -> int:
        """Fewest units that last so many frames."""
        if self._frames_a_unit == 1:
            return frames
        return math.ceil((frames + 0.5) / self._frames_a_unit)

    def _first_frame(self, units: Tensor) -> Tensor:
        """Where units begin, in frames after the prompt."""
        return (units.double() * self._frames_a_unit).round().long()
