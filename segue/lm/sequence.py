"""The layout of a stage's token sequence: pure algebra between streams, flat ids and positions.

    <start> semantic ... <separator> coarse ... <separator> fine ... <end>

Shapes: streams (..., Q, T) integers without offset, flat tokens (..., L), positions (L,). A stream is laid out
frame by frame, and codebook by codebook within a frame. Each codebook has its own range of ids. The id of <end>
follows the target's first codebook, so that what may come at a frame boundary is one range of classes.

Each token has a position. Under the scheme `time` it is the token's own time in ticks (codec frames, as a rule; see
segue.lm.stage): semantic token i stands at i * ratio, code (t, q of n) at (t + q / n) * ratio, where the ratio is the
stream's own, and the opening token of a stream one step before its first.
Then a target token and the prefix that describes the same instant stand at the same position, and a rotary
embedding sees them at distance nought. Under `index` it is the place in the sequence, as in the paper; it is the
only choice where repeats are removed, for then a semantic token no longer knows its time.

Source: Borsos et al. 2022, AudioLM (arXiv 2209.03143), section III.C, for the order of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from segue.errors import SegueError
from segue.lm.stage import Stage, Stream

PositionScheme = Literal["time", "index"]
START = 0
SEPARATOR = 1
NOT_PREDICTED = -100


@dataclass(frozen=True)
class TokenBatch:
    """Sequences ready for training, padded on the right.

    Attributes:
        tokens: (B, L) int64 flat ids that the model reads.
        positions: (B, L) float32.
        slots: (B, L) int64: which codebook of the target the next token belongs to; -1 where none is predicted.
        classes: (B, L) int64: the next token within its codebook; NOT_PREDICTED where none is.
    """

    tokens: Tensor
    positions: Tensor
    slots: Tensor
    classes: Tensor

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch on another device."""
        return TokenBatch(*(part.to(device) for part in (self.tokens, self.positions, self.slots, self.classes)))


class Layout:
    """Where every token of a stage goes.

    Args:
        stage: the streams and their order.
        scheme: how positions are counted.

    Raises:
        SegueError: for `time` positions of a stage that removes repeats.
    """

    def __init__(self, stage: Stage, scheme: PositionScheme = "time") -> None:
        if scheme == "time" and stage.deduplicate_semantic:
            raise SegueError(
                "positions 'time' need durations, which deduplicate_semantic removes; "
                "set positions to 'index' or keep the repeats"
            )
        self.stage = stage
        self.scheme: PositionScheme = scheme
        self._offsets: dict[str, list[int]] = {}
        next_id = 2
        for stream in stage.streams:
            offsets = []
            for codebook in range(stream.num_codebooks):
                offsets.append(next_id)
                next_id += stream.size
                if stream is stage.target and codebook == 0:
                    self.end = next_id
                    next_id += 1
            self._offsets[stream.name] = offsets
        self.num_ids = next_id

    def offsets(self, stream: Stream) -> list[int]:
        """The first id of each codebook of `stream`."""
        return self._offsets[stream.name]

    def slot(self, slot: int) -> tuple[int, int]:
        """First id and number of classes of the target's codebook `slot`; slot 0 has <end> as its last class."""
        return self._offsets[self.stage.target.name][slot], self.stage.target.size + (slot == 0)

    def flatten(self, stream: Stream, codes: Tensor) -> Tensor:
        """Stream (..., Q, T) -> flat ids (..., T * Q), frame by frame."""
        assert codes.shape[-2] == stream.num_codebooks, (stream.name, tuple(codes.shape))
        offsets = torch.tensor(self.offsets(stream), device=codes.device)
        return (codes.transpose(-1, -2) + offsets).flatten(-2)

    def unflatten(self, stream: Stream, ids: Tensor) -> Tensor:
        """Flat ids (..., T * Q) -> stream (..., Q, T): the inverse of `flatten`."""
        offsets = torch.tensor(self.offsets(stream), device=ids.device)
        return (ids.unflatten(-1, (-1, stream.num_codebooks)) - offsets).transpose(-1, -2)

    def read(self, prefix: Sequence[Tensor], target: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens that a model reads before it predicts what follows `target`.

        Args:
            prefix: one (..., Q, T) a prefix stream, in the stage's order, with equal leading axes.
            target: (..., Q, T) of the target that is known; T may be 0.

        Returns:
            tokens (..., L) and their positions (L,): <start>, the prefix, a <separator> after each stream, the target.
        """
        tokens, times = [], []
        opening = START
        for stream, codes in zip(self.stage.streams, [*prefix, target], strict=True):
            tokens.append(codes.new_full((*codes.shape[:-2], 1), opening))
            tokens.append(self.flatten(stream, codes))
            times.append(self._times(stream, codes.shape[-1]))
            opening = SEPARATOR
        flat = torch.cat(tokens, dim=-1)
        positions = torch.cat(times) if self.scheme == "time" else torch.arange(flat.shape[-1], dtype=torch.float32)
        return flat, positions

    def ahead(self, known_frames: int, frames: int, length: int) -> Tensor:
        """Positions (frames * Q,) of the target tokens that come after `known_frames` of it.

        Args:
            known_frames: target frames already read.
            frames: target frames to come.
            length: tokens already read, from <start> on.
        """
        stream = self.stage.target
        if self.scheme == "time":
            return self._times(stream, known_frames + frames)[1 + known_frames * stream.num_codebooks :]
        return torch.arange(length, length + frames * stream.num_codebooks, dtype=torch.float32)

    def train(self, prefix: Sequence[Tensor], target: Tensor, ends: bool) -> TokenBatch:
        """One sequence (B = 1) with what is to be predicted: the target, and <end> where the clip itself ends.

        Args:
            prefix: one (Q, T) a prefix stream.
            target: (Q, T).
            ends: whether the target's last frame is the clip's last.
        """
        tokens, positions = self.read(prefix, target)
        count = target.numel()
        first = tokens.shape[0] - 1 - count
        slots = tokens.new_full(tokens.shape, -1)
        classes = tokens.new_full(tokens.shape, NOT_PREDICTED)
        slots[first : first + count] = torch.arange(count, device=tokens.device) % self.stage.target.num_codebooks
        classes[first : first + count] = target.T.flatten()
        if ends:
            slots[-1] = 0
            classes[-1] = self.stage.target.size
        return TokenBatch(tokens[None], positions[None].to(tokens.device), slots[None], classes[None])

    def pad(self, rows: Sequence[TokenBatch]) -> TokenBatch:
        """Rows as one batch."""
        return pad(rows)

    def streams(self, tokens: Tensor) -> list[Tensor]:
        """Flat tokens (L,) -> each stream's (Q, T): the inverse of `read`; a final <end> is left out."""
        if tokens[-1] == self.end:
            tokens = tokens[:-1]
        openings = [*torch.nonzero(tokens <= SEPARATOR).flatten().tolist(), tokens.shape[0]]
        return [
            self.unflatten(stream, tokens[begin + 1 : stop])
            for stream, begin, stop in zip(self.stage.streams, openings, openings[1:], strict=False)
        ]

    def _times(self, stream: Stream, frames: int) -> Tensor:
        """Times (1 + frames * Q,) in ticks of a stream's opening token and of its tokens."""
        step = torch.arange(-1, frames * stream.num_codebooks, dtype=torch.float32)
        return step * (stream.ratio / stream.num_codebooks)


def pad(sequences: Sequence[TokenBatch]) -> TokenBatch:
    """Stack sequences, shorter ones padded on the right, where a causal model never looks from a real token."""
    longest = max(sequence.tokens.shape[1] for sequence in sequences)

    def stack(name: str, filler: int) -> Tensor:
        rows = [getattr(sequence, name) for sequence in sequences]
        return torch.cat([F.pad(row, (0, longest - row.shape[1]), value=filler) for row in rows])

    fillers = {"tokens": START, "positions": 0, "slots": -1, "classes": NOT_PREDICTED}
    return TokenBatch(**{name: stack(name, filler) for name, filler in fillers.items()})
