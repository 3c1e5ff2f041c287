"""A token store cut into training batches: batch k is a pure function of the seed and k.

A crop starts on a semantic frame, and its codes are cut at the same instant. Shapes: semantic (T_s,), codes
(T, Q), both at the store's frame rates; a batch is a TokenBatch (B, L).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from segue.data.store import TokenStore
from segue.errors import SegueError
from segue.lm.sequence import Layout, TokenBatch, pad
from segue.lm.stage import Stage, Stream

_POOL = 4


class TokenBatches:
    """Random crops of a store's clips, laid out for one stage.

    Clips are drawn in proportion to their length, and a batch takes crops of similar length from a larger draw.

    Args:
        store: where the tokens are.
        layout: the stage's layout (its stage says how long a crop is and which streams it holds).
        seed: of the draw.
        batch_size: sequences a batch.

    Raises:
        SegueError: if the store is empty or its tokens don't fit the stage.
    """

    def __init__(self, store: TokenStore, layout: Layout, seed: int, batch_size: int) -> None:
        _check(store, layout.stage)
        self._store = store
        self._layout = layout
        self._seed = seed
        self._batch_size = batch_size
        self._crop_frames = layout.stage.crop_frames
        self._cumulative = np.cumsum(store.code_frames().astype(np.float64))

    def crops(self, step: int) -> list[tuple[int, int, int]]:
        """Clip, first and one-past-last codec frame of each crop in batch `step`."""
        rng = np.random.default_rng([self._seed, step])
        draws = rng.random((_POOL * self._batch_size, 2))
        clips = np.searchsorted(self._cumulative, draws[:, 0] * self._cumulative[-1], side="right")
        ratio = self._layout.stage.semantic_ratio
        crops = []
        for clip, place in zip(clips.tolist(), draws[:, 1].tolist(), strict=True):
            frames = int(self._store.code_frames()[clip])
            starts = 1 + max(0, -(-(frames - self._crop_frames) // ratio))
            start = int(place * starts) * ratio
            crops.append((clip, start, min(start + self._crop_frames, frames)))
        crops.sort(key=lambda crop: crop[2] - crop[1])
        group = int(rng.integers(_POOL)) * self._batch_size
        return crops[group : group + self._batch_size]

    def batch(self, step: int) -> TokenBatch:
        """Batch `step`: tokens, positions, slots and classes (B, L), padded on the right."""
        sequences = []
        for clip, start, stop in self.crops(step):
            *prefix, target = (self._cut(stream, clip, start, stop) for stream in self._layout.stage.streams)
            ends = stop == self._store.code_frames()[clip]
            sequences.append(self._layout.train(prefix, target, bool(ends)))
        return pad(sequences)

    def _cut(self, stream: Stream, clip: int, start: int, stop: int) -> Tensor:
        """A stream (Q, T) of a clip between two codec frames, `start` being on a semantic frame."""
        if stream.name == "semantic":
            first = start // stream.ratio
            tokens = self._store.semantic(clip)[first : first + stream.frames(stop - start)]
            units = torch.from_numpy(tokens.astype(np.int64))
            return (torch.unique_consecutive(units) if self._layout.stage.deduplicate_semantic else units)[None]
        last = stream.first_codebook + stream.num_codebooks
        codes = self._store.codes(clip)[start:stop, stream.first_codebook : last]
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
    if (header.codec_frame_rate, header.ratio) != (stage.frame_rate, stage.semantic_ratio):
        raise SegueError(
            f"{stage.name} stage: {stage.frame_rate} Hz and ratio {stage.semantic_ratio}, but the store has "
            f"{header.codec_frame_rate} Hz and ratio {header.ratio}; train with the tokenizers of this store"
        )
