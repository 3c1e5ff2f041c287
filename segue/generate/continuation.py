"""A prompt goes on; or sound is made of nothing, or of a recording's semantic tokens alone.

Shapes: wave (B, N) mono float32, semantic (B, T_s), codes (B, Q, T). T_s and T stand in the ratio of the frame rates.

What is made comes as a stream of chunks; the whole is the stream, drained. Of several tries, of which one is kept, no
chunk comes before all are made. The prompt is tokenised from its end: what is left over of a whole number of frames
of both tokenizers (of semantic frames, as a rule) is at its start.

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
from segue.generate.made import Chunk, Continuation, chunk_of, rows_of, tokens_of, waves_of
from segue.generate.parallel import Filling, Parallel
from segue.generate.semantic_source import Continued, Nothing, Recorded, SemanticSource
from segue.generate.stages import Stages, StageSampling
from segue.generate.token_stream import Clock, TokenChunk, token_chunks
from segue.generate.tries import TRIES_APART, most_fitting
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
        tries: made for each row, of which the most fitting one is kept (see segue.generate.tries); beyond one, nothing
            can be heard before all is made.
        on_progress: called with the stage's name, frames made and frames wanted.

    Raises:
        SegueError: if a seed is negative or none is given, iterations or tries are less than 1, or there is no such
            system or decoder.
    """

    seeds: Sequence[int] = (0,)
    sampling: StageSampling = field(default_factory=StageSampling)
    system: System = "full"
    decoder: Decoder = "ar"
    iterations: int = ITERATIONS
    engine: tuple[str | None, str | None] = (None, None)
    stop_at_end: bool = False
    tries: int = 1
    on_progress: StageProgress | None = None

    def __post_init__(self) -> None:
        if not self.seeds or min(self.seeds) < 0:
            wrong = [seed for seed in self.seeds if seed < 0]
            raise SegueError(f"seed {wrong[0]}: 0 or more" if wrong else "seeds: give at least one")
        for name in ("iterations", "tries"):
            if getattr(self, name) < 1:
                raise SegueError(f"{name} {getattr(self, name)}: at least 1")
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

    With several tries `stream` gives the chunks of the one that is kept, once all are made.

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
        if self.settings.tries > 1:
            yield from self._kept()
            return
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
        yield chunk_of([sure] * rows, tokens)
        known = tokens.semantic, tokens.codes
        if settings.system == "semantic-only":
            known = known[0][:, :0], known[1][..., :0]
        elif settings.system == "acoustic-only":
            known = known[0][:, :0], known[1]
        told, clock = settings.on_progress, self.models.clock
        for tokens in token_chunks(self._source(), acoustic, *known, self.cuts, clock, told):
            made = zip(waves, tokens.codes, tokens.frames, strict=True)
            yield chunk_of([wave.decode(codes[:, :frames]) for wave, codes, frames in made], tokens)
        rest = replace(tokens, semantic=tokens.semantic[:, :0], codes=tokens.codes[..., :0], frames=(0,) * rows)
        yield chunk_of([wave.flush() for wave in waves], rest)

    def run(self) -> Continuation:
        """Make all of it. The same seed on the same machine gives the same bytes.

        Raises:
            SegueError: if a stage can't do what the system asks for.
        """
        chunks = list(self.stream())
        waves = waves_of(chunks)
        models, frames = self.models, self.prompt.codes.shape[1]
        coarse = models.stages.coarse.stage.target.num_codebooks
        return Continuation(
            wave=pad_sequence(waves, batch_first=True),
            samples=tuple(wave.shape[0] for wave in waves),
            sample_rate=models.codec.sample_rate,
            prompt_seconds=self.prompt.wave.shape[0] / models.codec.sample_rate,
            seeds=tuple(self.settings.seeds),
            tokens=tokens_of(chunks, models.clock, coarse, frames),
            offset_samples=self.prompt.wave.shape[0] - frames * models.codec.hop_length,
        )

    def _kept(self) -> Iterator[Chunk]:
        """The most fitting of each row's tries, once all of them are made. The first one has the row's own seed."""
        tries, rate = self.settings.tries, self.models.codec.sample_rate
        seeds = [seed + number * TRIES_APART for seed in self.settings.seeds for number in range(tries)]
        chunks = list(replace(self, settings=replace(self.settings, seeds=seeds, tries=1)).stream())
        made = [wave[self.prompt.wave.shape[0] :] for wave in waves_of(chunks)]
        firsts = range(0, len(made), tries)
        kept = [first + most_fitting(made[first : first + tries], self.prompt.wave, rate) for first in firsts]
        yield from (rows_of(chunk, kept) for chunk in chunks)

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
