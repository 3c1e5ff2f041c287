"""A prompt goes on: semantic, coarse and fine tokens one after the other, then sound.

Shapes: wave (B, N) mono float32, semantic (B, T_s), codes (B, Q, T). T_s and T stand in the ratio of the frame rates.

Source: Borsos et al. 2022, AudioLM (arXiv 2209.03143), section III.D (continuation) and IV.B (temperatures).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from segue.codec.seam import Codec, frames_a_cut
from segue.errors import SegueError
from segue.generate.run_stage import Progress, run_stage
from segue.generate.sampling import Sampling
from segue.lm.model import StageModel
from segue.units import frames_to_samples, seconds_to_samples

StageProgress = Callable[[str, int, int], None]
CROSSFADE_SECONDS = 0.02


class SemanticTokenizer(Protocol):
    """What a continuation asks of the semantic tokenizer."""

    sample_rate: int
    frame_rate: float
    hop_length: int

    def encode(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, N) -> (B, T)."""


@dataclass(frozen=True)
class Stages:
    """The three language models of a bundle.

    Raises:
        SegueError: if a stage is in another's place, or they don't speak of the same tokens.
    """

    semantic: StageModel
    coarse: StageModel
    fine: StageModel

    def __post_init__(self) -> None:
        models = {"semantic": self.semantic, "coarse": self.coarse, "fine": self.fine}
        targets = {name: model.stage.target for name, model in models.items()}
        for name, model in models.items():
            if model.stage.name != name:
                raise SegueError(f"the {model.stage.name} stage stands in the {name} stage's place; exchange them")
            for stream in model.stage.prefix:
                if stream != targets[stream.name]:
                    raise SegueError(f"the {name} stage expects {stream}, but the bundle has {targets[stream.name]}")
        if targets["fine"].first_codebook != targets["coarse"].num_codebooks:
            raise SegueError("the fine stage does not begin where the coarse stage ends; train them together")


@dataclass(frozen=True)
class StageSampling:
    """How freely each stage draws. The defaults are the paper's temperatures."""

    semantic: Sampling = field(default_factory=lambda: Sampling(0.6))
    coarse: Sampling = field(default_factory=lambda: Sampling(0.8))
    fine: Sampling = field(default_factory=lambda: Sampling(0.6))


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


def continue_wave(
    codec: Codec,
    semantic: SemanticTokenizer,
    stages: Stages,
    wave: Tensor,
    seconds: float,
    seeds: Sequence[int] = (0,),
    sampling: StageSampling | None = None,
    *,
    semantic_wave: Tensor | None = None,
    stop_at_end: bool = False,
    on_progress: StageProgress | None = None,
) -> Continuation:
    """Continue a wave. The same seed on the same machine gives the same bytes.

    The prompt is tokenised from its end: what is left over of a whole number of frames of both tokenizers (of semantic
    frames, as a rule) is at its start. It is decoded together with the continuation, so that the decoder is warm, then
    replaced by the original through a short crossfade (of equal amplitude: both sides are the same sound).

    Args:
        codec: codes of the stages that follow.
        semantic: tokens of the stages that follow.
        stages: the three language models.
        wave: (1, N) at the codec's sample rate.
        seconds: to make.
        seeds: one a continuation; each depends on its own seed alone.
        sampling: how freely each stage draws; None for the paper's temperatures.
        semantic_wave: (1, M), the same sound at the semantic tokenizer's sample rate; None where the rates are equal.
        stop_at_end: obey the semantic stage when it says that the clip is over; otherwise go on for `seconds`.
        on_progress: called with the stage's name, frames made and frames wanted.

    Raises:
        SegueError: if the prompt is no single wave of at least one frame of either tokenizer, it is not given at both
            sample rates, or `seconds` is not positive.
    """
    rate = codec.sample_rate
    codec_frames, semantic_frames = frames_a_cut(codec.frame_rate, semantic.frame_rate)
    step, semantic_step = codec_frames * codec.hop_length, semantic_frames * semantic.hop_length
    if semantic_wave is None:
        if semantic.sample_rate != rate:
            raise SegueError(f"prompt at {rate} Hz alone: give semantic_wave, the same at {semantic.sample_rate} Hz")
        semantic_wave = wave
    for given, least, its_rate in ((wave, step, rate), (semantic_wave, semantic_step, semantic.sample_rate)):
        if given.ndim != 2 or given.shape[0] != 1 or given.shape[1] < least:
            shape, shortest = tuple(given.shape), least / its_rate
            raise SegueError(f"prompt of shape {shape}: give one wave (1, N) of at least {shortest} seconds")
    if not (math.isfinite(seconds) and seconds > 0):
        raise SegueError(f"seconds {seconds}: ask for more than 0")
    cuts = min(wave.shape[1] // step, semantic_wave.shape[1] // semantic_step)
    offset = wave.shape[1] - cuts * step
    heard = wave[:, offset:]
    wanted = seconds_to_samples(seconds, rate)
    tokens = continue_tokens(
        stages,
        semantic.encode(semantic_wave[:, semantic_wave.shape[1] - cuts * semantic_step :])[0],
        codec.encode(heard)[0],
        math.ceil(wanted / step) * codec_frames,
        seeds,
        sampling,
        stop_at_end=stop_at_end,
        on_progress=on_progress,
    )
    rows = []
    for codes, frames in zip(tokens.codes, tokens.frames, strict=True):
        decoded = codec.decode(codes[None, :, :frames].to(wave.device))[0].to(wave)
        assert decoded.shape[0] == frames_to_samples(frames, codec.hop_length), decoded.shape
        rows.append(join(wave[0], decoded[: heard.shape[1] + wanted], heard.shape[1], rate))
    samples = tuple(row.shape[0] for row in rows)
    return Continuation(
        wave=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
        samples=samples,
        sample_rate=rate,
        prompt_seconds=wave.shape[1] / rate,
        seeds=tuple(seeds),
        tokens=tokens,
        offset_samples=offset,
    )


def continue_tokens(
    stages: Stages,
    semantic: Tensor,
    codes: Tensor,
    new_frames: int,
    seeds: Sequence[int] = (0,),
    sampling: StageSampling | None = None,
    *,
    stop_at_end: bool = False,
    on_progress: StageProgress | None = None,
) -> TokenContinuation:
    """Continue a prompt's tokens through all three stages.

    Args:
        stages: the three language models.
        semantic: (T_s,) of the prompt, a whole number of codec frames long.
        codes: (Q, T) of the prompt, a whole number of semantic frames long: of the same length.
        new_frames: codec frames to make, a whole number of semantic frames.
        seeds: one a row.
        sampling: how freely each stage draws; None for the paper's temperatures.
        stop_at_end: let the semantic stage end a row early.
        on_progress: called with the stage's name, frames made and frames wanted.

    Raises:
        SegueError: if prompt tokens don't belong together, or a seed is negative or none is given.
    """
    sampling = sampling or StageSampling()
    coarse_stream, fine_stream = stages.coarse.stage.target, stages.fine.stage.target
    unit_stream = stages.semantic.stage.target
    cut = math.lcm(unit_stream.ratio, coarse_stream.ratio)
    codec_frames, semantic_frames = cut // coarse_stream.ratio, cut // unit_stream.ratio
    books = coarse_stream.num_codebooks + fine_stream.num_codebooks
    cuts, left = divmod(semantic.shape[0], semantic_frames)
    if codes.shape != (books, cuts * codec_frames) or left or new_frames % codec_frames:
        raise SegueError(
            f"prompt: {semantic.shape[0]} semantic tokens and codes {tuple(codes.shape)}; expected {semantic_frames} "
            f"semantic for each ({books}, {codec_frames}) codes, and new frames in multiples of {codec_frames}"
        )
    if not seeds or min(seeds) < 0:
        raise SegueError(f"seeds {list(seeds)}: give at least one, none below 0")
    prompt_frames = codes.shape[1]
    tokens, lengths, ended = _run_semantic(
        stages.semantic,
        semantic,
        new_frames // codec_frames * semantic_frames,
        sampling.semantic,
        seeds,
        stop_at_end,
        semantic_frames,
        on_progress,
    )
    frames = tuple(length // semantic_frames * codec_frames for length in lengths)
    made = codes.new_zeros(len(seeds), books, max(frames)).to(tokens.device)
    for length in sorted(set(frames)):
        rows = [row for row, own in enumerate(frames) if own == length]
        streams = {"semantic": tokens[rows, None, : length // codec_frames * semantic_frames]}
        for model, how, first in (
            (stages.coarse, sampling.coarse, 0),
            (stages.fine, sampling.fine, coarse_stream.num_codebooks),
        ):
            stage = model.stage
            known = codes[first : first + stage.target.num_codebooks].expand(len(rows), -1, -1)
            result = run_stage(
                model,
                streams,
                known,
                length,
                how,
                [_rng(seeds[row], stage.name) for row in rows],
                on_progress=_named(on_progress, stage.name),
            )
            streams[stage.name] = result.tokens
        made[rows, :, :length] = torch.cat([streams["coarse"], streams["fine"]], dim=1).to(made.device)
    return TokenContinuation(tokens, made, prompt_frames, coarse_stream.num_codebooks, frames, ended)


def join(prompt: Tensor, decoded: Tensor, decoded_prompt: int, sample_rate: int) -> Tensor:
    """The original prompt (N,), then the decoded continuation.

    Args:
        prompt: (N,).
        decoded: (M,): the last `decoded_prompt` samples of the prompt as the codec gives them back, and what follows.
        decoded_prompt: samples.
        sample_rate: in Hz.

    Returns:
        (N + M - decoded_prompt,), in which decoded sound fades in over the last 20 ms of the prompt.
    """
    fade = min(seconds_to_samples(CROSSFADE_SECONDS, sample_rate), decoded_prompt)
    angle = (torch.arange(fade, dtype=prompt.dtype, device=prompt.device) + 0.5) / fade * (math.pi / 2)
    rising = angle.sin().square()
    seam = prompt[-fade:] * (1 - rising) + decoded[decoded_prompt - fade : decoded_prompt] * rising
    return torch.cat([prompt[:-fade], seam, decoded[decoded_prompt:]])


def _run_semantic(
    model: StageModel,
    prompt: Tensor,
    new_frames: int,
    sampling: Sampling,
    seeds: Sequence[int],
    stop_at_end: bool,
    multiple: int,
    on_progress: StageProgress | None,
) -> tuple[Tensor, list[int], tuple[bool, ...]]:
    """Semantic tokens (B, T_s) of prompt and continuation, each row's frames, and whether it said <end>.

    A row that ends early is cut to a multiple of `multiple` frames, which the prompt and `new_frames` are already.
    A stage without repeats makes units, not frames. It gets the budget, and each unit the duration, that the
    prompt's mean unit suggests.
    """
    stage = model.stage
    units = torch.unique_consecutive(prompt) if stage.deduplicate_semantic else prompt
    frames_a_unit = prompt.shape[0] / units.shape[0]
    known = units.shape[0]
    wanted = math.ceil(new_frames / frames_a_unit)
    result = run_stage(
        model,
        {},
        units.expand(len(seeds), 1, -1),
        known + wanted,
        sampling,
        [_rng(seed, stage.name) for seed in seeds],
        allow_end=stop_at_end,
        min_frames=known + 1,
        window_frames=max(2, round(stage.crop_frames / stage.target.ratio / frames_a_unit)),
        on_progress=_named(on_progress, stage.name),
    )
    rows, lengths = [], []
    for tokens, end in zip(result.tokens[:, 0], result.ended_at, strict=True):
        made = tokens[known:] if end is None else tokens[known:end]
        frames = new_frames if end is None else min(new_frames, round(made.shape[0] * frames_a_unit))
        bounds = torch.linspace(0, frames, made.shape[0] + 1, dtype=torch.float64).round().long()
        spread = made.repeat_interleave(bounds.diff().to(made.device))
        rows.append(torch.cat([prompt.to(tokens), spread[: frames - frames % multiple]]))
        lengths.append(rows[-1].shape[0])
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return padded, lengths, tuple(end is not None for end in result.ended_at)


def _rng(seed: int, stage_name: str) -> torch.Generator:
    """A stage's own generator, so that the length of one stage does not change the draws of the next."""
    words = np.random.SeedSequence([seed, *stage_name.encode()]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


def _named(on_progress: StageProgress | None, name: str) -> Progress | None:
    return None if on_progress is None else lambda done, total: on_progress(name, done, total)
