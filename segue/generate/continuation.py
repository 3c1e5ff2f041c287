"""A prompt goes on; or sound is made of nothing, or of a recording's semantic tokens alone.

Shapes: wave (B, N) mono float32, semantic (B, T_s), codes (B, Q, T). T_s and T stand in the ratio of the frame rates.

What is made comes as a stream of chunks; the whole is the stream, drained. The prompt is tokenised from its end: what
is left over of a whole number of frames of both tokenizers (of semantic frames, as a rule) is at its start.

Source: Borsos et al. 2022, AudioLM (arXiv 2209.03143), section III.D: unconditional generation, acoustic generation,
continuation. IV.C and table V for the two systems that leave one kind of tokens out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from segue.codec.seam import Codec, frames_a_cut
from segue.errors import SegueError
from segue.generate.acoustic import AcousticDecoder, Autoregressive, StageProgress
from segue.generate.parallel import Filling, Parallel
from segue.generate.semantic_source import Continued, Nothing, Recorded, SemanticSource
from segue.generate.stages import Stages, StageSampling
from segue.generate.token_stream import Clock, TokenChunk, token_chunks
from segue.generate.wave_stream import WaveStream
from segue.lm.parallel import ParallelModel
from segue.units import seconds_to_samples

System = Literal["full", "acoustic-only", "semantic-only"]
Decoder = Literal["ar", "parallel"]
DECODERS: tuple[Decoder, ...] = ("ar", "parallel")
SYSTEMS: tuple[System, ...] = ("full", "acoustic-only", "semantic-only")
ITERATIONS = 4
"""More rounds brought nothing that can be measured yet (docs/log.md); the paper takes 16."""
MOST_SECONDS = 100_000.0
"""More than a day: what a slip of the pen asks for is refused before memory runs out."""


class SemanticTokenizer(Protocol):
    """What a continuation asks of the semantic tokenizer."""

    sample_rate: int
    frame_rate: float
    hop_length: int

    def encode(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, N) -> (B, T)."""


@dataclass(frozen=True)
class Models:
    """What sound is made with: two tokenizers and the language models of their tokens.

    Attributes:
        codec: wave <-> codes.
        semantic: wave -> semantic tokens.
        stages: the three stages.
        parallel: stands in for the coarse and the fine stage where it is asked for.
    """

    codec: Codec
    semantic: SemanticTokenizer
    stages: Stages
    parallel: ParallelModel | None = None

    @property
    def clock(self) -> Clock:
        """How codes and semantic tokens go together.

        Raises:
            SegueError: if their frames never share an edge.
        """
        codec_frames, semantic_frames = frames_a_cut(self.codec.frame_rate, self.semantic.frame_rate)
        return Clock(codec_frames, semantic_frames, self.codec.frame_rate)

    @property
    def num_codebooks(self) -> int:
        """Q of the coarse and the fine stage together."""
        return sum(model.stage.target.num_codebooks for model in (self.stages.coarse, self.stages.fine))

    def acoustic(self, settings: Settings) -> AcousticDecoder:
        """Makes codes in the way asked for.

        Raises:
            SegueError: if there is no parallel decoder.
        """
        if settings.decoder == "ar":
            how = (settings.sampling, settings.seeds, settings.engine)
            return Autoregressive(self.stages, *how, self.codec.codebooks())
        if self.parallel is None:
            raise SegueError("decoder parallel: this bundle has none; take ar, or train one with segue train parallel")
        filling = Filling.asked(settings.iterations, settings.sampling.coarse)
        return Parallel(self.parallel, settings.seeds, filling)


@dataclass(frozen=True)
class Settings:
    """How to make it.

    Attributes:
        seeds: one a row; each row depends on its own seed alone.
        sampling: how freely each stage draws; the parallel decoder goes by the coarse stage's, without guidance.
        system: `full`; `acoustic-only` leaves semantic tokens out, `semantic-only` the prompt's codes, so that the
            voice is lost: the two that the paper compares with.
        decoder: `ar` makes codes with the coarse and the fine stage, `parallel` with the parallel decoder.
        iterations: rounds of the parallel decoder's first codebook.
        engine: that decodes the stages, and their weights, as segue.lm.decoder names them; None leaves it the choice.
        stop_at_end: obey the semantic stage when it says that the clip is over.
        on_progress: called with the stage's name, frames made and frames wanted.

    Raises:
        SegueError: if a seed is negative or none is given, iterations are less than 1, or there is no such system or
            decoder.
    """

    seeds: Sequence[int] = (0,)
    sampling: StageSampling = field(default_factory=StageSampling)
    system: System = "full"
    decoder: Decoder = "ar"
    iterations: int = ITERATIONS
    engine: tuple[str | None, str | None] = (None, None)
    stop_at_end: bool = False
    on_progress: StageProgress | None = None

    def __post_init__(self) -> None:
        if not self.seeds or min(self.seeds) < 0:
            wrong = [seed for seed in self.seeds if seed < 0]
            raise SegueError(f"seed {wrong[0]}: 0 or more" if wrong else "seeds: give at least one")
        if self.iterations < 1:
            raise SegueError(f"iterations {self.iterations}: at least 1")
        if self.system not in SYSTEMS:
            raise SegueError(f"system {self.system!r}: one of {', '.join(SYSTEMS)}")
        if self.decoder not in DECODERS:
            raise SegueError(f"decoder {self.decoder!r}: one of {', '.join(DECODERS)}")


@dataclass(frozen=True)
class Prompt:
    """A recording and its tokens.

    Attributes:
        wave: (N,) at the codec's sample rate; N = 0 where there is none.
        semantic: (T_s,).
        codes: (Q, T) of the same stretch, which ends with the wave.
    """

    wave: Tensor
    semantic: Tensor
    codes: Tensor


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
        seeds: of each row.
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


def tokenize_prompt(models: Models, wave: Tensor, semantic_wave: Tensor | None = None) -> Prompt:
    """The tokens of a recording's end.

    Args:
        models: whose tokenizers to use.
        wave: (1, N) at the codec's sample rate.
        semantic_wave: (1, M), the same sound at the semantic tokenizer's sample rate; None where the rates are equal.

    Raises:
        SegueError: if the prompt is no single wave of at least one frame of either tokenizer, or it is not given at
            both sample rates.
    """
    codec, semantic, clock = models.codec, models.semantic, models.clock
    step, semantic_step = clock.codec_frames * codec.hop_length, clock.semantic_frames * semantic.hop_length
    if semantic_wave is None:
        if semantic.sample_rate != codec.sample_rate:
            rates = f"prompt at {codec.sample_rate} Hz alone: give semantic_wave, the same at {semantic.sample_rate} Hz"
            raise SegueError(rates)
        semantic_wave = wave
    for given, least, rate in (
        (wave, step, codec.sample_rate),
        (semantic_wave, semantic_step, semantic.sample_rate),
    ):
        if given.ndim != 2 or given.shape[0] != 1 or given.shape[1] < least:
            shape, shortest = tuple(given.shape), least / rate
            raise SegueError(f"prompt of shape {shape}: give one wave (1, N) of at least {shortest} seconds")
    cuts = min(wave.shape[1] // step, semantic_wave.shape[1] // semantic_step)
    units = semantic.encode(semantic_wave[:, semantic_wave.shape[1] - cuts * semantic_step :])[0]
    codes = codec.encode(wave[:, wave.shape[1] - cuts * step :])[0, : models.num_codebooks]
    return Prompt(wave[0], units, codes)


def no_prompt(models: Models) -> Prompt:
    """Silence of no length, for what stands alone."""
    device = models.stages.semantic.device
    none = torch.zeros(0, dtype=torch.long, device=device)
    return Prompt(torch.zeros(0, device=device), none, none.expand(models.num_codebooks, 0))


@dataclass(frozen=True)
class Generation:
    """Sound to be made; `stream` makes it chunk by chunk, `run` all of it: the same bytes.

    Attributes:
        models: to make it with.
        prompt: to go on with; see `tokenize_prompt` and `no_prompt`.
        seconds: to make.
        settings: how.
        content: (T_s,) semantic tokens of what is to be made, of a recording; None lets the semantic stage draw them.

    Raises:
        SegueError: if `seconds` is not positive or more than a day, or tokens don't belong together or don't suffice.
    """

    models: Models
    prompt: Prompt
    seconds: float
    settings: Settings
    content: Tensor | None = None

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= MOST_SECONDS:
            raise SegueError(f"seconds {self.seconds:g}: ask for more than 0 and at most {MOST_SECONDS:g}")
        clock, books = self.models.clock, self.models.num_codebooks
        cuts, left = divmod(self.prompt.semantic.shape[0], clock.semantic_frames)
        if self.prompt.codes.shape != (books, cuts * clock.codec_frames) or left:
            raise SegueError(
                f"prompt: {self.prompt.semantic.shape[0]} semantic tokens and codes {tuple(self.prompt.codes.shape)}; "
                f"expected {clock.semantic_frames} semantic for each ({books}, {clock.codec_frames}) codes"
            )
        if self.content is not None and self.content.shape[0] < self.cuts * clock.semantic_frames:
            have = self.content.shape[0] / self.models.semantic.frame_rate
            raise SegueError(f"seconds {self.seconds:g}: the recording has {have:g} s of whole frames; ask for less")

    @property
    def wanted_samples(self) -> int:
        """Samples to make."""
        return seconds_to_samples(self.seconds, self.models.codec.sample_rate)

    @property
    def cuts(self) -> int:
        """Cuts that hold `wanted_samples`."""
        return math.ceil(self.wanted_samples / (self.models.clock.codec_frames * self.models.codec.hop_length))

    def stream(self) -> Iterator[Chunk]:
        """Make it chunk by chunk.

        Yields:
            The prompt, then a chunk for every stretch, the first of half a second.

        Raises:
            SegueError: on iterating, if a stage can't do what the system asks for.
        """
        prompt, settings, rows = self.prompt, self.settings, len(self.settings.seeds)
        acoustic = self.models.acoustic(settings)
        waves = [WaveStream(self.models.codec, prompt.wave, prompt.codes, self.wanted_samples) for _ in settings.seeds]
        sure = prompt.wave[: prompt.wave.shape[0] - waves[0].fade_samples]
        tokens = TokenChunk(
            prompt.semantic.expand(rows, -1),
            prompt.codes.expand(rows, -1, -1),
            frames=(prompt.codes.shape[1],) * rows,
            ended=(False,) * rows,
        )
        yield _chunk([sure] * rows, tokens)
        known = tokens.semantic, tokens.codes
        if settings.system == "semantic-only":
            known = known[0][:, :0], known[1][..., :0]
        elif settings.system == "acoustic-only":
            known = known[0][:, :0], known[1]
        told, clock = settings.on_progress, self.models.clock
        for tokens in token_chunks(self._source(), acoustic, *known, self.cuts, clock, told):
            made = zip(waves, tokens.codes, tokens.frames, strict=True)
            yield _chunk([wave.decode(codes[:, :frames]) for wave, codes, frames in made], tokens)
        rest = replace(tokens, semantic=tokens.semantic[:, :0], codes=tokens.codes[..., :0], frames=(0,) * rows)
        yield _chunk([wave.flush() for wave in waves], rest)

    def run(self) -> Continuation:
        """Make all of it. The same seed on the same machine gives the same bytes.

        Raises:
            SegueError: if a stage can't do what the system asks for.
        """
        chunks = list(self.stream())
        rows = range(len(self.settings.seeds))
        waves = [torch.cat([chunk.wave[row, : chunk.samples[row]] for chunk in chunks]) for row in rows]
        codec, frames = self.models.codec, self.prompt.codes.shape[1]
        return Continuation(
            wave=pad_sequence(waves, batch_first=True),
            samples=tuple(wave.shape[0] for wave in waves),
            sample_rate=codec.sample_rate,
            prompt_seconds=self.prompt.wave.shape[0] / codec.sample_rate,
            seeds=tuple(self.settings.seeds),
            tokens=_tokens([chunk.tokens for chunk in chunks], self.models, frames),
            offset_samples=self.prompt.wave.shape[0] - frames * codec.hop_length,
        )

    def _source(self) -> SemanticSource:
        settings, clock = self.settings, self.models.clock
        if settings.system == "acoustic-only":
            return Nothing(len(settings.seeds))
        if self.content is not None:
            return Recorded(self.content, len(settings.seeds))
        told, model = settings.on_progress, self.models.stages.semantic
        return Continued(
            model,
            self.prompt.semantic,
            self.cuts * clock.semantic_frames,
            settings.sampling.semantic,
            settings.seeds,
            stop_at_end=settings.stop_at_end,
            multiple=clock.semantic_frames,
            engine=settings.engine,
            on_progress=None if told is None else lambda done, total: told(model.stage.name, done, total),
        )


def _chunk(waves: list[Tensor], tokens: TokenChunk) -> Chunk:
    return Chunk(pad_sequence(waves, batch_first=True), tuple(wave.shape[0] for wave in waves), tokens)


def _tokens(chunks: list[TokenChunk], models: Models, prompt_frames: int) -> TokenContinuation:
    frames = tuple(sum(chunk.frames[row] for chunk in chunks) for row in range(len(chunks[0].frames)))
    clock, longest = models.clock, max(frames)
    semantic = torch.cat([chunk.semantic.to(chunks[0].semantic) for chunk in chunks], dim=1)
    codes = torch.cat([chunk.codes for chunk in chunks], dim=-1)
    return TokenContinuation(
        semantic=semantic[:, : longest // clock.codec_frames * clock.semantic_frames],
        codes=codes[..., :longest],
        prompt_frames=prompt_frames,
        num_coarse=models.stages.coarse.stage.target.num_codebooks,
        frames=frames,
        ended=chunks[-1].ended,
    )
