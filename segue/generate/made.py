"""What generation gives: chunks of sound as they are made, and all of it with its tokens.

Shapes: wave (B, N) mono float32, semantic (B, T_s), codes (B, Q, T). Shorter rows are padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from segue.generate.token_stream import Clock, TokenChunk


@dataclass(frozen=True)
class Chunk:
    """Some more sound.

    Attributes:
        wave: (B, n); the first chunk is the prompt, less its last 20 ms. Rows that are shorter are padded with silence.
        samples: length of each row.
        tokens: of every stage, of the prompt or of what was made since; sound may lag behind by the codec's latency.
    """

    wave: Tensor
    samples: tuple[int, ...]
    tokens: TokenChunk


@dataclass(frozen=True)
class TokenContinuation:
    """Tokens of prompt and continuation.

    Attributes:
        semantic: (B, T_s); shorter rows are padded with 0.
        codes: (B, Q, T); shorter rows are padded with 0.
        prompt_frames: codec frames of the prompt.
        num_coarse: how many of the Q codebooks are the coarse stage's.
        frames: codec frames of each row, prompt included.
        ended: whether each row stopped because its semantic stage said <end>.
    """

    semantic: Tensor
    codes: Tensor
    prompt_frames: int
    num_coarse: int
    frames: tuple[int, ...]
    ended: tuple[bool, ...]

    @property
    def coarse(self) -> Tensor:
        """(B, num_coarse, T)."""
        return self.codes[:, : self.num_coarse]

    @property
    def fine(self) -> Tensor:
        """(B, Q - num_coarse, T)."""
        return self.codes[:, self.num_coarse :]


@dataclass(frozen=True)
class Continuation:
    """A prompt and what follows it.

    Attributes:
        wave: (B, N): the prompt as it was given, then the continuation; shorter rows are padded with silence.
        samples: length of each row.
        sample_rate: the codec's, in Hz.
        prompt_seconds: length of the prompt in `wave`.
        seeds: asked for, one a row; of several tries the kept one may have been drawn with another (TRIES_APART).
        tokens: of every stage. Their first frame stands `offset_samples` into `wave`.
        offset_samples: prompt samples before the first whole frame.
    """

    wave: Tensor
    samples: tuple[int, ...]
    sample_rate: int
    prompt_seconds: float
    seeds: tuple[int, ...]
    tokens: TokenContinuation
    offset_samples: int


def chunk_of(waves: Sequence[Tensor], tokens: TokenChunk) -> Chunk:
    """Rows' waves (n,), of any lengths, and their tokens as a chunk."""
    return Chunk(pad_sequence(list(waves), batch_first=True), tuple(wave.shape[0] for wave in waves), tokens)


def rows_of(chunk: Chunk, rows: Sequence[int]) -> Chunk:
    """Some rows of a chunk."""
    tokens, kept = chunk.tokens, list(rows)
    own = TokenChunk(
        tokens.semantic[kept],
        tokens.codes[kept],
        frames=tuple(tokens.frames[row] for row in kept),
        ended=tuple(tokens.ended[row] for row in kept),
    )
    return chunk_of([chunk.wave[row, : chunk.samples[row]] for row in kept], own)


def waves_of(chunks: Sequence[Chunk]) -> list[Tensor]:
    """Each row's sound (n,)."""
    rows = range(len(chunks[0].samples))
    return [torch.cat([chunk.wave[row, : chunk.samples[row]] for chunk in chunks]) for row in rows]


def tokens_of(chunks: Sequence[Chunk], clock: Clock, num_coarse: int, prompt_frames: int) -> TokenContinuation:
    """The tokens of all chunks together.

    Args:
        chunks: of one generation, the prompt's first.
        clock: of its models.
        num_coarse: codebooks of the coarse stage.
        prompt_frames: codec frames of the prompt.
    """
    tokens = [chunk.tokens for chunk in chunks]
    frames = tuple(sum(one.frames[row] for one in tokens) for row in range(len(tokens[0].frames)))
    longest = max(frames)
    semantic = torch.cat([one.semantic.to(tokens[0].semantic) for one in tokens], dim=1)
    codes = torch.cat([one.codes for one in tokens], dim=-1)
    return TokenContinuation(
        semantic=semantic[:, : longest // clock.codec_frames * clock.semantic_frames],
        codes=codes[..., :longest],
        prompt_frames=prompt_frames,
        num_coarse=num_coarse,
        frames=frames,
        ended=tokens[-1].ended,
    )
