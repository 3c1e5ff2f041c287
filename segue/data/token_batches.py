"""A token store cut into training batches: batch k is a pure function of the seed and k.

A crop starts where a frame of every stream begins (on a semantic frame, as a rule); places within a clip are counted in
the stage's ticks (see segue.lm.stage). Shapes: semantic (T_s,), codes (T, Q), both at the store's frame rates; a batch
is what the layout makes of them: a TokenBatch (B, L) or a FrameBatch (B, Q, T).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from segue.data.store import TokenStore
from segue.errors import SegueError
from segue.lm.stage import Stage, Stream

POOL = 40
"""Times as many crops are drawn as a batch takes: those of a length from among them."""


B = TypeVar("B")


class Layout(Protocol[B]):
    """What makes rows of a batch from cut streams: segue.lm.sequence.Layout or segue.lm.parallel.FrameLayout."""

    stage: Stage

    def train(self, prefix: Sequence[Tensor], target: Tensor, ends: bool) -> B:
        """One row from one (Q, T) a prefix stream and the target (Q, T); `ends` where it ends with its clip."""

    def pad(self, rows: Sequence[B]) -> B:
        """Rows as one batch."""


class TokenBatches(Generic[B]):
    """Random crops of a store's clips, laid out for one stage.

    Clips are drawn in proportion to their length, and a batch takes sequences of similar length from a larger draw,
    any stretch of it as likely as another, so that little of the batch is padding and no length is favoured.

    Args:
        store: where the tokens are.
        layout: the stage's layout (its stage says how long a crop is and which streams it holds).
        seed: of the draw.
        batch_size: sequences a batch.
        without_semantic: share of the sequences whose semantic prefix is left empty.

    Raises:
        SegueError: if the store is empty or its tokens don't fit the stage.
    """

    def __init__(
        self, store: TokenStore, layout: Layout[B], seed: int, batch_size: int, without_semantic: float = 0.0
    ) -> None:
        _check(store, layout.stage)
        self._store = store
        self._layout = layout
        self._seed = seed
        self._batch_size = batch_size
        self._without_semantic = without_semantic
        self._crop_frames = layout.stage.crop_frames
        self._ticks = store.code_frames() * store.header.cut[1]
        self._cumulative = np.cumsum(self._ticks.astype(np.float64))
        semantic = [store.semantic(clip) for clip in range(len(store) if layout.stage.deduplicate_semantic else 0)]
        self._ends = np.cumsum([0, *map(len, semantic)])
        self._changes = np.cumsum(np.diff(np.concatenate(semantic), prepend=0) != 0) if semantic else None

    def crops(self, step: int) -> list[tuple[int, int, int]]:
        """Clip, first and one-past-last tick of each crop in batch `step`."""
        rng = np.random.default_rng([self._seed, step])
        draws = rng.random((POOL * self._batch_size, 2))
        clips = np.searchsorted(self._cumulative, draws[:, 0] * self._cumulative[-1], side="right")
        ratio = self._layout.stage.semantic_ratio
        spare = np.maximum(0, self._ticks[clips] - self._crop_frames)
        starts = (draws[:, 1] * (1 + -(-spare // ratio))).astype(np.int64) * ratio
        stops = np.minimum(starts + self._crop_frames, self._ticks[clips])
        group = int(rng.integers(POOL)) * self._batch_size
        chosen = np.argsort(self.lengths(clips, starts, stops), kind="stable")[group : group + self._batch_size]
        return [(int(clips[crop]), int(starts[crop]), int(stops[crop])) for crop in chosen]

    def lengths(self, clips: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """Tokens of the sequences that crops (n,) become, less an <end>."""
        tokens = np.zeros_like(clips)
        for stream in self._layout.stage.streams:
            frames = stream.frames(stops - starts)
            if stream.name == "semantic" and self._changes is not None:
                first = self._ends[clips] + starts // stream.ratio
                last = np.minimum(first + frames, self._ends[clips + 1]) - 1
                frames = 1 + self._changes[last] - self._changes[first]
            tokens += 1 + frames * stream.num_codebooks
        return tokens

    def batch(self, step: int, rows: slice = slice(None)) -> B:
        """Batch `step`, or some rows of it, padded on the right."""
        sequences = []
        left_out = np.random.default_rng([self._seed, step, 1]).random(self._batch_size) < self._without_semantic
        for (clip, start, stop), bare in zip(self.crops(step)[rows], left_out[rows], strict=True):
            streams = self._layout.stage.streams
            *prefix, target = (self.cut(stream, clip, start, stop) for stream in streams)
            if bare:
                prefix = [c[:, :0] if s.name == "semantic" else c for s, c in zip(streams, prefix, strict=False)]
            ends = stop == self._ticks[clip]
            sequences.append(self._layout.train(prefix, target, bool(ends)))
        return self._layout.pad(sequences)

    def cut(self, stream: Stream, clip: int, start: int, stop: int) -> Tensor:
        """A stream (Q, T) of a clip between two ticks, `start` being on a cut."""
        first = start // stream.ratio
        past = first + stream.frames(stop - start)
        if stream.name == "semantic":
            tokens = self._store.semantic(clip)[first:past]
            units = torch.from_numpy(tokens.astype(np.int64))
            return (torch.unique_consecutive(units) if self._layout.stage.deduplicate_semantic else units)[None]
        last = stream.first_codebook + stream.num_codebooks
        codes = self._store.codes(clip)[first:past, stream.first_codebook : last]
        return torch.from_numpy(codes.T.astype(np.int64))


def _check(store: TokenStore, stage: Stage) -> None:
    header = store.header
    if len(store) == 0:
        raise SegueError("token store: it holds no clips; tokenise some audio first")
    for stream in stage.streams:
        known = header.vocab_size if stream.name == "semantic" else header.codebook_size
        if stream.size != known:
            raise SegueError(
                f"{stage.name} stage: {stream.size} {stream.name} tokens, but the store has {known}; "
                "train with the tokenizers of this store"
            )
        if stream.name != "semantic" and stream.first_codebook + stream.num_codebooks > header.num_codebooks:
            raise SegueError(
                f"{stage.name} stage: codebooks up to {stream.first_codebook + stream.num_codebooks}, "
                f"but the store has {header.num_codebooks}; tokenise with more codebooks"
            )
    for stream in stage.streams:
        known_rate = header.semantic_frame_rate if stream.name == "semantic" else header.codec_frame_rate
        rate = stage.frame_rate / stream.ratio
        if abs(rate - known_rate) > 1e-6:
            raise SegueError(
                f"{stage.name} stage: {stream.name} tokens at {rate:g} Hz, but the store has {known_rate:g} Hz; "
                "train with the tokenizers of this store"
            )
    clock = max(header.codec_frame_rate, header.semantic_frame_rate)
    if abs(stage.frame_rate - clock) > 1e-6 or stage.semantic_ratio != max(header.cut):
        raise SegueError(
            f"{stage.name} stage: cut every {stage.semantic_ratio} ticks of {stage.frame_rate:g} Hz, the store every "
            f"{max(header.cut)} of {clock:g} Hz; train with the tokenizers of this store"
        )
