"""The codec seam: what every codec promises, whether Segue trained it or it was published elsewhere.

wave (B, N) mono float32 in [-1, 1] -> codes (B, q, T), T = ceil(N / hop_length) -> wave (B, T * hop_length).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from segue.errors import SegueError
from segue.units import frame_ratio

MOST_CANDIDATES = 64
"""Work grows with the square of a search's candidates; four find nearly all there is to find."""


class Codec(Protocol):
    """Wave to codes and back.

    A row's codes depend on its own samples alone, not on its batch or on padding. Nothing here needs a gradient.

    Attributes:
        sample_rate: of waves, in Hz.
        hop_length: samples a frame.
        frame_rate: frames a second, in Hz.
        num_codebooks: Q.
        codebook_size: codes a codebook.
        fingerprint: of config and weights, 16 hex digits; empty for a codec that is not on disk.
        codes_fingerprint: of what makes the codes: two codecs that share it read each other's.
    """

    sample_rate: int
    hop_length: int
    frame_rate: float
    num_codebooks: int
    codebook_size: int
    fingerprint: str
    codes_fingerprint: str

    def encode(
        self, wave: Tensor, lengths: Tensor | None = None, num_codebooks: int | None = None, candidates: int = 1
    ) -> Tensor:
        """Code a wave.

        Args:
            wave: (B, N) mono float32 at `sample_rate`.
            lengths: (B,) samples of each row that are sound; the codes of what lies beyond are 0.
            num_codebooks: q, layers to use; all by default.
            candidates: sequences of codes that are weighed against each other in each frame; more keep more of the
                sound and take longer. A codec that can't search codes as it does, however many are asked for.

        Returns:
            codes (B, q, T) int64, T = ceil(N / hop_length).

        Raises:
            SegueError: if the wave is not a finite float (B, N), N >= 1, lengths don't fit it, or q is out of range.
        """

    def decode(self, codes: Tensor) -> Tensor:
        """Turn codes (B, q, T) of the first q layers back into a wave (B, T * hop_length).

        Raises:
            SegueError: if the shape, the dtype, q or an index is out of range.
        """

    def codebooks(self) -> Tensor | None:
        """The codes' own vectors (Q, codebook_size, W): which codes sound alike. None where there are none."""


@runtime_checkable
class StreamingCodec(Codec, Protocol):
    """A codec that also works on sound as it comes."""

    def streaming(self) -> AbstractContextManager[Any]:
        """Within, each call goes on where the last one stopped."""


def checked_count(codec: Codec, num_codebooks: int | None, candidates: int) -> int:
    """How many layers are asked for: all of them unless it is said.

    Raises:
        SegueError: if the codec has not so many, or candidates are not 1 to 64.
    """
    count = codec.num_codebooks if num_codebooks is None else num_codebooks
    if not 1 <= count <= codec.num_codebooks:
        raise SegueError(f"num_codebooks {count}: this codec has 1 to {codec.num_codebooks}")
    if not 1 <= candidates <= MOST_CANDIDATES:
        raise SegueError(f"candidates {candidates}: 1 to {MOST_CANDIDATES}")
    return count


def check_codes(codes: Tensor, num_codebooks: int, codebook_size: int) -> None:
    """Refuse what are no codes of such a codec.

    Raises:
        SegueError: if they are not integers (B, q, T) with B and T at least 1, q from 1 to `num_codebooks`, and every
            index from 0 to `codebook_size` - 1.
    """
    if codes.ndim != 3 or codes.dtype not in (torch.int16, torch.int32, torch.int64):
        raise SegueError(f"codes {tuple(codes.shape)} {codes.dtype}: (B, Q, T) integers are wanted")
    if codes.numel() == 0 or codes.shape[1] > num_codebooks:
        raise SegueError(f"codes {tuple(codes.shape)}: a row, a frame and 1 to {num_codebooks} layers")
    if int(codes.min()) < 0 or int(codes.max()) >= codebook_size:
        raise SegueError(f"codes {int(codes.min())} to {int(codes.max())}: only 0 to {codebook_size - 1} exist")


def frames_a_cut(codec_frame_rate: float, semantic_frame_rate: float) -> tuple[int, int]:
    """The fewest codec frames and semantic frames that last equally long: both streams can be cut there.

    Args:
        codec_frame_rate: in Hz.
        semantic_frame_rate: in Hz.

    Returns:
        (2, 1) at 50 and 25 Hz, (3, 1) at 75 and 25 Hz, (1, 2) at 12.5 and 25 Hz.

    Raises:
        SegueError: if neither rate is a whole multiple of the other.
    """
    fast, slow = max(codec_frame_rate, semantic_frame_rate), min(codec_frame_rate, semantic_frame_rate)
    try:
        ratio = frame_ratio(fast, slow)
    except ValueError as error:
        raise SegueError(
            f"codes at {codec_frame_rate:g} Hz and semantic tokens at {semantic_frame_rate:g} Hz never share a frame's "
            "edge; take a codec whose frame rate is a whole multiple or fraction of the semantic tokenizer's"
        ) from error
    return (ratio, 1) if codec_frame_rate >= semantic_frame_rate else (1, ratio)
