"""Tokens of all stages, stretch by stretch: semantic tokens first, then the codes of the same stretch.

The first stretch is short, so that something can soon be heard; the next ones double up to what the acoustic decoder
makes well at once. What is heard at once and what is made as a whole are cut alike, and so are the same. Only as much
of the past is kept as the acoustic decoder looks back on.

Shapes: semantic (B, T_s), codes (B, Q, T). A cut is the least time that both have whole frames of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from segue.generate.acoustic import AcousticDecoder, StageProgress
from segue.generate.semantic_source import SemanticSource
from segue.units import seconds_to_frames

FIRST_STRETCH_SECONDS = 0.5


@dataclass(frozen=True)
class Clock:
    """How the two streams go together.

    Attributes:
        codec_frames: codec frames a cut.
        semantic_frames: semantic frames a cut.
        codec_frame_rate: in Hz.
    """

    codec_frames: int
    semantic_frames: int
    codec_frame_rate: float


@dataclass(frozen=True)
class TokenChunk:
    """The tokens of one stretch.

    Attributes:
        semantic: (B, t_s); (B, 0) where there are none.
        codes: (B, Q, t).
        frames: codec frames that each row has; a row that has ended before has 0. What lies beyond is 0.
        ended: whether each row has stopped by itself.
    """

    semantic: Tensor
    codes: Tensor
    frames: tuple[int, ...]
    ended: tuple[bool, ...]


def stretches(cuts: int, first: int, most: int) -> Iterator[int]:
    """Lengths in cuts that add up to `cuts`: `first`, doubling, at most `most`."""
    length = min(first, most)
    while cuts > 0:
        yield min(length, cuts)
        cuts -= length
        length = min(2 * length, most)


def token_chunks(
    source: SemanticSource,
    acoustic: AcousticDecoder,
    semantic: Tensor,
    codes: Tensor,
    cuts: int,
    clock: Clock,
    on_progress: StageProgress | None = None,
) -> Iterator[TokenChunk]:
    """Make `cuts` of all streams.

    Args:
        source: of semantic tokens; it may end rows early.
        acoustic: makes codes of them.
        semantic: (B, T_s) that the acoustic decoder is to know from before, up to the instant where `source` begins.
        codes: (B, Q, T) of the same stretch.
        cuts: to make.
        clock: how the streams go together.
        on_progress: told stage, frames made and frames wanted, of the codes.
    """
    most = max(1, acoustic.most_frames // clock.codec_frames)
    first = max(1, seconds_to_frames(FIRST_STRETCH_SECONDS, clock.codec_frame_rate) // clock.codec_frames)
    keep = math.ceil(acoustic.context_frames / clock.codec_frames)
    rows, done = codes.shape[0], 0
    for length in stretches(cuts, first, most):
        semantic, codes = semantic[:, -keep * clock.semantic_frames :], codes[..., -keep * clock.codec_frames :]
        so_far, lengths = source.up_to((done + length) * clock.semantic_frames)
        units = so_far[:, done * clock.semantic_frames :].to(semantic.device)
        semantic = torch.cat([semantic, units], dim=1)
        wanted = length * clock.codec_frames
        own = [max(0, size // clock.semantic_frames - done) * clock.codec_frames for size in lengths]
        made = codes.new_zeros(rows, codes.shape[1], wanted)
        for frames in sorted(set(own) - {0}):
            chosen = [row for row in range(rows) if own[row] == frames]
            spare = (wanted - frames) // clock.codec_frames * clock.semantic_frames
            seen = semantic[chosen, : semantic.shape[1] - spare]
            told = _from(done * clock.codec_frames, cuts * clock.codec_frames, on_progress)
            made[chosen, :, :frames] = acoustic.extend(seen, codes[chosen], frames, chosen, told).to(made)
        codes = torch.cat([codes, made], dim=-1)
        done += length
        yield TokenChunk(units, made, tuple(own), source.ended)
        if all(end and size < wanted for end, size in zip(source.ended, own, strict=True)):
            return


def _from(before: int, total: int, on_progress: StageProgress | None) -> StageProgress | None:
    return None if on_progress is None else lambda name, done, _: on_progress(name, before + done, total)
