"""Running one stage, window by window: the same code for semantic, coarse and fine tokens.

A window is at most a training crop long. It holds the prefix streams of its stretch of time and the target as far
as it is known, which the stage takes as its prompt; the window then slides so that a share of it is always new.
A run goes as far as it is asked to and can be taken up again, so that what is made can be heard before the rest is.

Shapes: streams (B, Q, T) integers at the stream's own frame rate, all from the same instant on; draws (B, N) in [0, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from segue.errors import SegueError
from segue.generate.guidance import Guided, Reader
from segue.generate.least_error import least_error
from segue.generate.sampling import Sampling, choose, uniforms
from segue.lm.decoder import Decoder, make_decoder
from segue.lm.model import StageModel
from segue.lm.sequence import START

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StageResult:
    """What a stage made.

    Attributes:
        tokens: (B, Q, T) of the target, what was known first.
        ended_at: for each row the target frame at which <end> was drawn, or None; later frames mean nothing.
    """

    tokens: Tensor
    ended_at: tuple[int | None, ...]


class StageRunner:
    """A stage's model, ready to run: how it draws, and its decoders, kept from one run to the next.

    Args:
        model: of the stage; its device is where it runs.
        sampling: how tokens are drawn.
        new_share: least share of a window that is new, unless less is wanted.
        engine: that decodes, and its weights; None for what segue.lm.decoder chooses.
        guidance: how closely it follows what it is told, see segue.generate.guidance; 1 for as it was trained.
        vectors: (Q, size, W) of the target's codes, with which temperature 0 takes the code of the least error to be
            expected instead of the likeliest, see segue.generate.least_error.
    """

    def __init__(
        self,
        model: StageModel,
        sampling: Sampling,
        new_share: float = 0.5,
        engine: tuple[str | None, str | None] = (None, None),
        guidance: float = 1.0,
        vectors: Tensor | None = None,
    ) -> None:
        self.model, self.sampling, self.new_share, self._engine = model, sampling, new_share, engine
        self.guidance = guidance
        self._vectors = None if vectors is None else vectors.float().to(model.device)
        self._decoders: dict[bool, tuple[int, int, Decoder]] = {}

    def start(
        self,
        streams: Mapping[str, Tensor],
        known: Tensor,
        total_frames: int,
        draws: Tensor,
        *,
        end_from: int | None = None,
        window_frames: int | None = None,
        on_progress: Progress | None = None,
    ) -> StageRun:
        """Begin to continue the target of the stage to `total_frames`.

        Args:
            streams: name -> (B, Q, T) of every prefix stream: up to `total_frames` at least, or T = 0 where the stage
                may do without it.
            known: (B, Q, T) of the target, the prompt; T may be 0.
            total_frames: target frames wanted, the known ones included.
            draws: (B, new frames * Q) numbers in [0, 1): row b of the result depends on row b alone.
            end_from: the target frame from which on <end> may be drawn; None if never.
            window_frames: target frames a window; None for the stage's crop.
            on_progress: called with the frames made and wanted.

        Raises:
            SegueError: if a prefix stream is missing or too short, or the prompt is none.
        """
        stage, device = self.model.stage, self.model.device
        target, rows = stage.target, draws.shape[0]
        if known.ndim != 3 or known.shape[:2] != (rows, target.num_codebooks):
            raise SegueError(
                f"{stage.name} stage: prompt {tuple(known.shape)}, expected ({rows}, {target.num_codebooks}, T)"
            )
        prefix = [_covering(self.model, streams, index, total_frames) for index in range(len(stage.prefix))]
        total_frames = max(total_frames, known.shape[-1])
        align = max(1, stage.semantic_ratio // target.ratio)
        size = max(2 * align, stage.crop_frames // target.ratio if window_frames is None else window_frames)
        fresh = min(max(1, round(size * self.new_share)), size - align)
        tokens = torch.zeros(rows, target.num_codebooks, total_frames, dtype=torch.long, device=device)
        tokens[..., : known.shape[-1]] = known.to(device)
        plan = windows(known.shape[-1], total_frames, size, fresh, align)
        return StageRun(self, prefix, tokens, draws.to(device), known.shape[-1], plan, end_from, on_progress)

    def run(self, *args: object, **options: object) -> StageResult:
        """As `start`, all the way."""
        run = self.start(*args, **options)  # type: ignore[arg-type]
        return run.advance(run.total_frames)

    def choose(self, logits: Tensor, slot: int, uniform: Tensor) -> Tensor:
        """A token a row (B,) of the target's codebook `slot`, from logits (B, C) and numbers (B, 1) in [0, 1)."""
        if self._vectors is None or self.sampling.temperature > 0:
            return choose(logits, self.sampling, uniform)
        return least_error(logits, self._vectors[slot])

    def decoder(self, rows: int, length: int, bare: bool = False) -> Decoder:
        """A decoder for so many rows and at least `length` tokens; another one for what is told less."""
        kept, room, decoder = self._decoders.get(bare, (0, 0, None))
        if decoder is None or kept != rows or room < length:
            engine, weights = self._engine
            decoder = make_decoder(self.model.transformer, rows, length, engine=engine, weights=weights)
            self._decoders[bare] = (rows, length, decoder)  # another number of rows is rare: one is kept
        return decoder


class StageRun:
    """One continuation under way; `StageRunner.start` makes it.

    Attributes:
        tokens: (B, Q, total_frames) of the target, filled as far as `done`.
        done: target frames there.
        ended_at: for each row the target frame at which <end> was drawn, or None.
    """

    def __init__(
        self,
        runner: StageRunner,
        prefix: list[Tensor],
        tokens: Tensor,
        draws: Tensor,
        known_frames: int,
        plan: Iterator[tuple[int, int, int]],
        end_from: int | None,
        on_progress: Progress | None,
    ) -> None:
        self.tokens, self.done = tokens, known_frames
        self.ended_at: list[int | None] = [None] * tokens.shape[0]
        self._runner, self._model = runner, runner.model
        self._prefix = prefix
        self._draws = draws
        self._known_frames = known_frames
        self._end_from = None if end_from is None else max(end_from, known_frames)
        self._on_progress = on_progress
        self._frames = (None for window in plan for _ in self._window(*window))

    @property
    def total_frames(self) -> int:
        """Target frames wanted."""
        return self.tokens.shape[-1]

    @property
    def all_ended(self) -> bool:
        """Whether every row has drawn <end>."""
        return all(end is not None for end in self.ended_at)

    @torch.inference_mode()
    def advance(self, frames: int) -> StageResult:
        """Make what is missing up to `frames` of the target.

        Returns:
            All tokens so far, as long as the longest row if all rows have ended.

        Raises:
            SegueError: if the model gives no finite logits.
        """
        while self.done < min(frames, self.total_frames) and not self.all_ended:
            next(self._frames)
        longest = max((self.done if end is None else end) for end in self.ended_at)
        return StageResult(self.tokens[..., :longest].clone(), tuple(self.ended_at))

    def _window(self, start: int, done: int, stop: int) -> Iterator[None]:
        """Fill frames `done` to `stop` of the target one by one, seeing what lies after `start`."""
        layout, target = self._model.layout, self._model.stage.target
        reader = self._opened(start, done, stop)
        if not reader.finite:
            raise SegueError(f"{self._model.stage.name} stage: logits are not finite; its weights are damaged")
        slots = [layout.slot(slot) for slot in range(target.num_codebooks)]
        last = (stop - 1, len(slots) - 1)
        for frame in range(done, stop):
            for slot, (first, _) in enumerate(slots):
                may_end = slot == 0 and self._end_from is not None and frame >= self._end_from
                logits = reader.logits(first, target.size + may_end)
                place = (frame - self._known_frames) * len(slots) + slot
                classes = self._runner.choose(logits, slot, self._draws[:, place : place + 1])
                if may_end:
                    classes = self._end(classes, frame)
                self.tokens[:, slot, frame] = classes
                if (frame, slot) != last:
                    reader.step(classes + first)
            self.done = frame + 1
            if self._on_progress is not None:
                self._on_progress(self.done - self._known_frames, self.total_frames - self._known_frames)
            yield

    def _opened(self, start: int, done: int, stop: int) -> Reader | Guided:
        """What is asked for the tokens of a window, having read what it opens with."""
        stage, guidance = self._model.stage, self._runner.guidance
        told = self._reader(start, done, stop)
        tells = stage.semantic_optional and any(
            stream.name == "semantic" and codes.shape[-1]
            for stream, codes in zip(stage.prefix, self._prefix, strict=True)
        )
        begun = max(start, self._known_frames)
        if guidance == 1 or (begun == start and not tells):
            return told
        return Guided(told, self._reader(begun, done, stop, bare=True), guidance)

    def _reader(self, start: int, done: int, stop: int, bare: bool = False) -> Reader:
        """The model, having read what lies between `start` and `done`, without the semantic tokens if `bare`."""
        layout = self._model.layout
        read, positions, mask, lengths = self._read(start, done, stop, bare)
        ahead = torch.stack([layout.ahead(done - start, stop - done, length) for length in lengths])
        positions = torch.cat([positions.expand(len(ahead), -1), ahead.to(read.device)], dim=1)
        decoder = self._runner.decoder(read.shape[0], read.shape[1] + ahead.shape[1], bare)
        return Reader(decoder, read, positions, mask)

    def _read(self, start: int, done: int, stop: int, bare: bool) -> tuple[Tensor, Tensor, Tensor | None, list[int]]:
        """What the window opens with: tokens (B, L), positions (B or 1, L), mask and each row's own length."""
        stage, layout = self._model.stage, self._model.layout
        known = self.tokens[..., start:done]
        ratio, less = stage.target.ratio, bare and stage.semantic_optional
        cut = [
            codes[..., :0]
            if less and stream.name == "semantic"
            else codes[..., start * ratio // stream.ratio :][..., : stream.frames((stop - start) * ratio)]
            for stream, codes in zip(stage.prefix, self._prefix, strict=True)
        ]
        names = [stream.name for stream in stage.prefix]
        if not stage.deduplicate_semantic or "semantic" not in names:
            tokens, positions = layout.read(cut, known)
            return tokens, positions[None].to(tokens.device), None, [tokens.shape[1]]
        rows = []
        for row in range(known.shape[0]):
            own = [codes[row] for codes in cut]
            place = names.index("semantic")
            own[place] = torch.unique_consecutive(own[place][0])[None]
            rows.append(layout.read(own, known[row]))
        lengths = [tokens.shape[0] for tokens, _ in rows]
        longest = max(lengths)
        padding = [(longest - length, 0) for length in lengths]
        tokens = torch.stack([F.pad(row[0], gap, value=START) for row, gap in zip(rows, padding, strict=True)])
        positions = torch.stack([F.pad(row[1], gap) for row, gap in zip(rows, padding, strict=True)]).to(tokens.device)
        if min(lengths) == longest:
            return tokens, positions, None, lengths
        mask = torch.arange(longest) >= torch.tensor(padding)[:, :1]
        return tokens, positions, mask.to(tokens.device), lengths

    def _end(self, classes: Tensor, frame: int) -> Tensor:
        """Note who drew <end>, and give them some token in its place."""
        ended = classes == self._model.stage.target.size
        for row, now in enumerate(ended.tolist()):
            if now and self.ended_at[row] is None:
                self.ended_at[row] = frame
        return classes.masked_fill(ended, 0)


def run_stage(
    model: StageModel,
    streams: Mapping[str, Tensor],
    known: Tensor,
    total_frames: int,
    sampling: Sampling,
    rngs: Sequence[torch.Generator],
    *,
    end_from: int | None = None,
    window_frames: int | None = None,
    on_progress: Progress | None = None,
) -> StageResult:
    """Continue the target of a stage to `total_frames`: one run of a `StageRunner`, which has the arguments.

    Args:
        rngs: a generator a row; row b depends on generator b alone.
    """
    draws = uniforms(rngs, max(0, total_frames - known.shape[-1]) * model.stage.target.num_codebooks)
    options = {"end_from": end_from, "window_frames": window_frames, "on_progress": on_progress}
    return StageRunner(model, sampling).run(streams, known, total_frames, draws, **options)


def windows(known: int, total: int, size: int, fresh: int, align: int) -> Iterator[tuple[int, int, int]]:
    """First frame, first new frame and one-past-last frame of each window, in target frames.

    Args:
        known: frames there already.
        total: frames wanted.
        size: most frames a window.
        fresh: frames of a window to keep for new ones.
        align: windows begin on a multiple of this.
    """
    done = known
    while done < total:
        start = max(0, done - (size - min(fresh, total - done)))
        start = min(-(-start // align) * align, done - done % align)
        stop = min(start + size, total)
        yield start, done, stop
        done = stop


def _covering(model: StageModel, streams: Mapping[str, Tensor], index: int, total_frames: int) -> Tensor:
    """A prefix stream (B, Q, T) that reaches as far as the target is wanted, or is left out where it may be."""
    stage = model.stage
    stream = stage.prefix[index]
    if stream.name not in streams:
        raise SegueError(f"{stage.name} stage: its {stream.name} prefix is missing")
    codes = streams[stream.name]
    needed = stream.frames(total_frames * stage.target.ratio)
    left_out = stage.semantic_optional and stream.name == "semantic" and codes.shape[-1] == 0
    if codes.ndim != 3 or codes.shape[1] != stream.num_codebooks or (codes.shape[2] < needed and not left_out):
        raise SegueError(
            f"{stage.name} stage: {stream.name} prefix {tuple(codes.shape)}, "
            f"expected (B, {stream.num_codebooks}, at least {needed})"
        )
    return codes.to(model.device)
