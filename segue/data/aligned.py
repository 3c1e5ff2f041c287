"""Two tokenizers as one: a clip's semantic tokens (T_s,) and codes (Q, T), cut at the same instants.

Both get the same sound, each at its own sample rate, padded to a whole number of cuts: the stretch of time after which
a frame of both begins (segue.codec.seam.frames_a_cut). So T_s and T stand in the ratio of the frame rates, and both
streams of a clip begin and end together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from segue.codec.seam import Codec, frames_a_cut
from segue.data.store import StoreHeader


class SemanticTokenizer(Protocol):
    """What tokenising a corpus asks of a semantic tokenizer."""

    fingerprint: str
    vocab_size: int
    frame_rate: float
    hop_length: int
    sample_rate: int

    def encode(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Tokenizers:
    """What turns a wave into a row of a token store.

    Attributes:
        semantic: the semantic tokenizer.
        codec: the codec.
        device: where both are.
    """

    semantic: SemanticTokenizer
    codec: Codec
    device: str = "cpu"

    @property
    def header(self) -> StoreHeader:
        """Of stores that these tokenizers fill."""
        return header(self.semantic, self.codec)


def encode_aligned(
    wave: Tensor, semantic: SemanticTokenizer, codec: Codec, codec_wave: Tensor | None = None, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """A wave's semantic tokens and codes, cut at the same instants.

    Args:
        wave: (N,) at the semantic tokenizer's sample rate.
        semantic: the semantic tokenizer.
        codec: the codec.
        codec_wave: (M,) the same sound at the codec's sample rate; None where the rates are equal.
        device: where the tokenizers are.

    Returns:
        Semantic tokens (T_s,) and codes (Q, T) of a whole number of cuts, on the CPU.

    Raises:
        SegueError: if the two kinds of frame never begin at one instant.
    """
    assert codec_wave is not None or semantic.sample_rate == codec.sample_rate
    codec_wave = wave if codec_wave is None else codec_wave
    codec_frames, semantic_frames = frames_a_cut(codec.frame_rate, semantic.frame_rate)
    cuts = -(-codec_wave.shape[-1] // (codec_frames * codec.hop_length))
    padded = _filled(wave, cuts * semantic_frames * semantic.hop_length).to(device)
    codec_padded = _filled(codec_wave, cuts * codec_frames * codec.hop_length).to(device)
    with torch.inference_mode():
        tokens, codes = semantic.encode(padded)[0].cpu(), codec.encode(codec_padded)[0].cpu()
    assert (codes.shape[-1], tokens.shape[-1]) == (cuts * codec_frames, cuts * semantic_frames)
    return tokens, codes


def header(semantic: SemanticTokenizer, codec: Codec) -> StoreHeader:
    """The header of stores that these tokenizers fill."""
    return StoreHeader(
        semantic_fingerprint=semantic.fingerprint,
        codec_fingerprint=codec.codes_fingerprint,
        vocab_size=semantic.vocab_size,
        num_codebooks=codec.num_codebooks,
        codebook_size=codec.codebook_size,
        semantic_frame_rate=semantic.frame_rate,
        codec_frame_rate=codec.frame_rate,
    )


def _filled(wave: Tensor, samples: int) -> Tensor:
    """(N,) -> (1, samples): zeros at the end, or without the sample that resampling may have rounded up to."""
    assert wave.shape[-1] - samples <= 1, (wave.shape, samples)
    return F.pad(wave, (0, samples - wave.shape[-1]))[None]
