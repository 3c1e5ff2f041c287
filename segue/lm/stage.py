"""The three stages of AudioLM as three values: what each is given, what it predicts, how long a crop it sees.

    semantic stage   nothing           -> semantic          p(s)        what comes next
    coarse stage     semantic          -> coarse codes      p(c | s)    how it sounds
    fine stage       semantic, coarse  -> fine codes        p(f | s, c) in detail

and a fourth that may stand in for the last two, whose codes are filled in all at once (segue.lm.parallel):

    acoustic stage   semantic          -> all codes         p(c, f | s)

A stream is (num_codebooks, frames) integers; the semantic stream has one codebook. Time is counted in ticks of the
fastest clock here: codec frames, or semantic frames where those are the shorter ones. A stream's `ratio` says how many
ticks one of its own frames lasts, and every cut falls where a frame of every stream begins.

Source: Borsos et al. 2022, AudioLM (arXiv 2209.03143), section III.C; crop lengths from section IV.B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segue.codec.seam import frames_a_cut
from segue.config import later
from segue.errors import SegueError
from segue.units import frames_to_seconds, seconds_to_frames

StreamName = Literal["semantic", "coarse", "fine", "acoustic"]


@dataclass(frozen=True)
class Stream:
    """One kind of token along time.

    Attributes:
        name: `semantic`, `coarse`, `fine`, or `acoustic`: coarse and fine together.
        first_codebook: where its codebooks begin among the codec's; 0 for semantic tokens.
        num_codebooks: tokens a frame.
        size: values a token can take.
        ratio: ticks that one frame of this stream lasts.
    """

    name: StreamName
    first_codebook: int
    num_codebooks: int
    size: int
    ratio: int

    def __post_init__(self) -> None:
        if self.num_codebooks < 1 or self.size < 1 or self.ratio < 1 or self.first_codebook < 0:
            raise SegueError(f"stream {self.name}: codebooks, size and ratio must be at least 1; got {self}")

    def frames(self, ticks: int) -> int:
        """Frames of this stream that cover `ticks`; the last may be covered in part."""
        return -(-ticks // self.ratio)


@dataclass(frozen=True)
class Stage:
    """What one language model is given and what it predicts.

    Attributes:
        name: the name of its target.
        prefix: the streams it is conditioned on, in the order in which they stand before the target.
        target: the stream it predicts.
        frame_rate: ticks a second, in Hz: of the codec, or of the semantic tokenizer where that is the faster one.
        semantic_ratio: ticks from one cut to the next: a semantic frame, or a codec frame where that is the longer one.
        crop_seconds: the longest stretch of audio it ever sees.
        deduplicate_semantic: whether repeated semantic tokens are removed, and with them their durations.
        semantic_optional: whether the stage is also trained without its semantic prefix, and may do without it.
    """

    name: StreamName
    prefix: tuple[Stream, ...]
    target: Stream
    frame_rate: float
    semantic_ratio: int
    crop_seconds: float
    deduplicate_semantic: bool = False
    semantic_optional: bool = later(False)

    def __post_init__(self) -> None:
        if self.crop_frames < 2 * self.semantic_ratio:
            seconds = frames_to_seconds(2 * self.semantic_ratio, self.frame_rate)
            raise SegueError(f"stage {self.name}: crop_seconds {self.crop_seconds} is too short; use {seconds} or more")

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Prefix and target, in the order of the sequence."""
        return (*self.prefix, self.target)

    @property
    def crop_frames(self) -> int:
        """Ticks in a crop: a whole number of cuts."""
        frames = seconds_to_frames(self.crop_seconds, self.frame_rate)
        return frames - frames % self.semantic_ratio

    @property
    def tokenizers(self) -> set[str]:
        """Whose tokens it reads and writes: `semantic`, `codec`, or both."""
        return {"semantic" if stream.name == "semantic" else "codec" for stream in self.streams}


def semantic_stage(
    vocab_size: int,
    semantic_frame_rate: float = 25.0,
    codec_frame_rate: float = 50.0,
    crop_seconds: float = 30.0,
    deduplicate: bool = False,
) -> Stage:
    """What comes next: semantic tokens from the semantic tokens before them."""
    clock = _Clock(codec_frame_rate, semantic_frame_rate)
    return Stage("semantic", (), clock.semantic(vocab_size), clock.rate, clock.cut, crop_seconds, deduplicate)


def coarse_stage(
    vocab_size: int,
    num_coarse: int = 4,
    codebook_size: int = 1024,
    semantic_frame_rate: float = 25.0,
    codec_frame_rate: float = 50.0,
    crop_seconds: float = 10.0,
    deduplicate: bool = False,
) -> Stage:
    """How it sounds: the first codebooks, frame by frame, from the semantic tokens of the same stretch."""
    clock = _Clock(codec_frame_rate, semantic_frame_rate)
    semantic, coarse = clock.semantic(vocab_size), Stream("coarse", 0, num_coarse, codebook_size, clock.codec_ratio)
    return Stage("coarse", (semantic,), coarse, clock.rate, clock.cut, crop_seconds, deduplicate)


def fine_stage(
    vocab_size: int,
    num_codebooks: int = 12,
    num_coarse: int = 4,
    codebook_size: int = 1024,
    semantic_frame_rate: float = 25.0,
    codec_frame_rate: float = 50.0,
    crop_seconds: float = 3.0,
    deduplicate: bool = False,
    prefix: tuple[StreamName, ...] = ("semantic", "coarse"),
) -> Stage:
    """In detail: the remaining codebooks, given the coarse ones and, unless `prefix` says otherwise, the semantic."""
    clock = _Clock(codec_frame_rate, semantic_frame_rate)
    known = {
        "semantic": clock.semantic(vocab_size),
        "coarse": Stream("coarse", 0, num_coarse, codebook_size, clock.codec_ratio),
    }
    for name in prefix:
        if name not in known:
            raise SegueError(f"fine stage: prefix {name!r} is not one of semantic, coarse")
    fine = Stream("fine", num_coarse, num_codebooks - num_coarse, codebook_size, clock.codec_ratio)
    streams = tuple(known[n] for n in prefix)
    return Stage("fine", streams, fine, clock.rate, clock.cut, crop_seconds, deduplicate)


def acoustic_stage(
    vocab_size: int,
    num_codebooks: int = 12,
    codebook_size: int = 1024,
    semantic_frame_rate: float = 25.0,
    codec_frame_rate: float = 50.0,
    crop_seconds: float = 30.0,
) -> Stage:
    """All codebooks from the semantic tokens of the same stretch, whose repeats are kept (arXiv 2305.09636)."""
    clock = _Clock(codec_frame_rate, semantic_frame_rate)
    codes = Stream("acoustic", 0, num_codebooks, codebook_size, clock.codec_ratio)
    return Stage("acoustic", (clock.semantic(vocab_size),), codes, clock.rate, clock.cut, crop_seconds)


class _Clock:
    """The ticks that two frame rates, in Hz, are counted in."""

    def __init__(self, codec_frame_rate: float, semantic_frame_rate: float) -> None:
        self.semantic_ratio, self.codec_ratio = frames_a_cut(codec_frame_rate, semantic_frame_rate)
        self.rate = max(codec_frame_rate, semantic_frame_rate)
        self.cut = self.semantic_ratio * self.codec_ratio

    def semantic(self, vocab_size: int) -> Stream:
        """The semantic stream."""
        return Stream("semantic", 0, 1, vocab_size, self.semantic_ratio)
