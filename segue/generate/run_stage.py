"""Running one stage, window by window: the same code for semantic, coarse and fine tokens.

A window is at most a training crop long. It holds the prefix streams of its stretch of time and the target as far
as it is known, which the stage takes as its prompt; the window then slides so that a share of it is always new.

Shapes: streams (B, Q, T) integers at the stream's own frame rate, all from the same instant on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from segue.errors import SegueError
from segue.generate.sampling import Sampling, choose, uniforms
from segue.lm.cache import CachedDecoder
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


def run_stage(
    model: StageModel,
    streams: Mapping[str, Tensor],
    known: Tensor,
    total_frames: int,
    sampling: Sampling,
    rngs: Sequence[torch.Generator],
    *,
    allow_end: bool = False,
    min_frames: int = 0,
    window_frames: int | None = None,
    new_share: float = 0.5,
    on_progress: Progress | None = None,
) -> StageResult:
    """Continue the target of a stage to `total_frames`.

    Args:
        model: of the stage; its device is where this runs.
        streams: name -> (B, Q, T) of every prefix stream, up to `total_frames` at least.
        known: (B, Q, T) of the target, the prompt; T may be 0.
        total_frames: target frames wanted, the known ones included.
        sampling: how tokens are drawn.
        rngs: a generator a row; row b depends on generator b alone.
        allow_end: whether <end> may be drawn; the result is then as long as its longest row.
        min_frames: target frames before which <end> may not come.
        window_frames: target frames a window; None for the stage's crop.
        new_share: least share of a window that is new, unless less is wanted.
        on_progress: called with the frames made and wanted.

    Returns:
        The tokens and where each row ended.

    Raises:
        SegueError: if a prefix stream is missing or too short, or the model gives no finite logits.
    """
    stage, device = model.stage, model.transformer.table.device
    target = stage.target
    known_frames = known.shape[-1]
    if known.ndim != 3 or known.shape[:2] != (len(rngs), target.num_codebooks):
        raise SegueError(
            f"{stage.name} stage: prompt {tuple(known.shape)}, expected ({len(rngs)}, {target.num_codebooks}, T)"
        )
    prefix = [_covering(model, streams, stream_index, total_frames) for stream_index in range(len(stage.prefix))]
    total_frames = max(total_frames, known_frames)
    align = max(1, stage.semantic_ratio // target.ratio)
    size = max(2 * align, stage.crop_frames // target.ratio if window_frames is None else window_frames)
    fresh = min(max(1, round(size * new_share)), size - align)
    draws = uniforms(rngs, (total_frames - known_frames) * target.num_codebooks).to(device)
    tokens = torch.zeros(len(rngs), target.num_codebooks, total_frames, dtype=torch.long, device=device)
    tokens[..., :known_frames] = known.to(device)
    run = _Run(model, prefix, tokens, draws, sampling, known_frames, on_progress)
    if allow_end:
        run.may_end_from = max(min_frames, known_frames)
    with torch.inference_mode():
        for start, done, stop in windows(known_frames, total_frames, size, fresh, align):
            run.window(start, done, stop)
            if run.all_ended:
                break
    frames = max((total_frames if end is None else end) for end in run.ended_at)
    return StageResult(tokens[..., :frames].clone(), tuple(run.ended_at))


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


class _Run:
    """The state of one stage's decoding: the tokens so far, the decoder and who has ended."""

    def __init__(
        self,
        model: StageModel,
        prefix: list[Tensor],
        tokens: Tensor,
        draws: Tensor,
        sampling: Sampling,
        known_frames: int,
        on_progress: Progress | None,
    ) -> None:
        self.ended_at: list[int | None] = [None] * tokens.shape[0]
        self.may_end_from: int | None = None
        self._model = model
        self._prefix = prefix
        self._tokens = tokens
        self._draws = draws.unsqueeze(-1).unbind(1)
        self._sampling = sampling
        self._known_frames = known_frames
        self._on_progress = on_progress
        self._decoder: tuple[int, CachedDecoder] | None = None

    @property
    def all_ended(self) -> bool:
        """Whether every row has drawn <end>."""
        return all(end is not None for end in self.ended_at)

    def window(self, start: int, done: int, stop: int) -> None:
        """Fill frames `done` to `stop` of the target, seeing what lies after `start`."""
        layout, target = self._model.layout, self._model.stage.target
        read, positions, mask, lengths = self._read(start, done, stop)
        ahead = torch.stack([layout.ahead(done - start, stop - done, length) for length in lengths])
        turns = self._model.transformer.rotation(ahead.to(read.device)).unbind(1)
        decoder = self._decoder_for(read.shape[1] + len(turns))
        state = decoder.prefill(read, positions, mask)
        if not torch.isfinite(state).all():
            raise SegueError(f"{self._model.stage.name} stage: logits are not finite; its weights are damaged")
        slots = [layout.slot(slot) for slot in range(target.num_codebooks)]
        step = 0
        for frame in range(done, stop):
            for slot, (first, _) in enumerate(slots):
                may_end = slot == 0 and self.may_end_from is not None and frame >= self.may_end_from
                logits = decoder.logits(state, first, target.size + may_end)
                draw = self._draws[(frame - self._known_frames) * len(slots) + slot]
                classes = choose(logits, self._sampling, draw)
                if may_end:
                    classes = self._end(classes, frame)
                    if self.all_ended:
                        return
                self._tokens[:, slot, frame] = classes
                if step + 1 < len(turns):
                    state = decoder.step(classes + first, turns[step])
                step += 1
            if self._on_progress is not None:
                self._on_progress(frame + 1 - self._known_frames, self._tokens.shape[-1] - self._known_frames)

    def _read(self, start: int, done: int, stop: int) -> tuple[Tensor, Tensor, Tensor | None, list[int]]:
        """What the window opens with: tokens (B, L), positions (B or 1, L), mask and each row's own length."""
        stage, layout = self._model.stage, self._model.layout
        known = self._tokens[..., start:done]
        ratio = stage.target.ratio
        cut = [
            codes[..., start * ratio // stream.ratio :][..., : stream.frames((stop - start) * ratio)]
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

    def _decoder_for(self, length: int) -> CachedDecoder:
        if self._decoder is None or self._decoder[0] < length:
            self._decoder = (length, CachedDecoder(self._model.transformer, self._tokens.shape[0], length))
        return self._decoder[1]


def _covering(model: StageModel, streams: Mapping[str, Tensor], index: int, total_frames: int) -> Tensor:
    stage = model.stage
    stream = stage.prefix[index]
    if stream.name not in streams:
        raise SegueError(f"{stage.name} stage: its {stream.name} prefix is missing")
    codes = streams[stream.name]
    needed = stream.frames(total_frames * stage.target.ratio)
    if codes.ndim != 3 or codes.shape[1] != stream.num_codebooks or codes.shape[2] < needed:
        raise SegueError(
            f"{stage.name} stage: {stream.name} prefix {tuple(codes.shape)}, "
            f"expected (B, {stream.num_codebooks}, at least {needed})"
        )
    return codes.to(model.transformer.table.device)
