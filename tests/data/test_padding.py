"""Little of a batch of tokens is padding, no length is favoured, and processes find their rows of the same batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segue.data import token_batches
from segue.data.store import StoreHeader, StoreRow, TokenStore, TokenStoreWriter
from segue.data.token_batches import TokenBatches
from segue.lm.sequence import START, Layout
from segue.lm.stage import coarse_stage, semantic_stage

STAGES = {
    "coarse": (coarse_stage(9, 2, 9, crop_seconds=8), "time"),
    "deduplicated": (semantic_stage(9, crop_seconds=8, deduplicate=True), "index"),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> TokenStore:
    """Clips from half a second to ten, with many repeated units."""
    folder, draw = tmp_path_factory.mktemp("padding"), np.random.default_rng(0)
    writer = TokenStoreWriter(folder, StoreHeader("s", "c", vocab_size=9, num_codebooks=2, codebook_size=9))
    for clip in range(150):
        frames = int(draw.integers(25, 500))
        units = np.repeat(draw.integers(0, 9, frames), draw.integers(1, 9, frames))[: -(-frames // 2)]
        writer.add(StoreRow(f"{clip}", "", "", frames / 50, "", None, units, draw.integers(0, 9, (2, frames))))
    writer.flush()
    return TokenStore.open(folder)


def padding(batches: TokenBatches, steps: int = 30) -> float:
    tokens = [batches.batch(step).tokens for step in range(steps)]
    real = sum(int((part != START).sum()) + len(part) for part in tokens)
    return 1 - real / sum(part.numel() for part in tokens)


@pytest.mark.parametrize("name", STAGES)
def test_little_is_padding(store, name, monkeypatch):
    batches = TokenBatches(store, Layout(*STAGES[name]), seed=0, batch_size=8)
    share = padding(batches)
    monkeypatch.setattr(token_batches, "POOL", 1)
    assert share < 0.04 < 5 * share + 0.05 < padding(batches), (share, padding(batches))


@pytest.mark.parametrize("name", STAGES)
def test_lengths_are_those_of_the_sequences(store, name):
    batches = TokenBatches(store, Layout(*STAGES[name]), seed=1, batch_size=8)
    for step in range(5):
        crops = batches.crops(step)
        counted = batches.lengths(*map(np.array, zip(*crops, strict=True)))
        tokens = batches.batch(step).tokens
        assert [int((row != START).sum()) + 1 for row in tokens] == counted.tolist()


def test_no_length_is_favoured(store):
    """Crops come from each clip as often as its length says, grouped by length or not."""
    batches = TokenBatches(store, Layout(*STAGES["coarse"]), seed=0, batch_size=16)
    drawn = np.bincount([clip for step in range(600) for clip, _, _ in batches.crops(step)], minlength=len(store))
    short = store.code_frames() < 250
    expected = store.code_frames()[short].sum() / store.code_frames().sum()
    assert drawn[short].sum() / drawn.sum() == pytest.approx(expected, abs=0.05)


def test_rows_are_those_of_the_whole_batch(store):
    batches = TokenBatches(store, Layout(*STAGES["coarse"]), seed=0, batch_size=8)
    whole = batches.batch(3)
    for rows in (slice(0, 4), slice(4, 8), slice(6, 8)):
        part = batches.batch(3, rows)
        length = part.tokens.shape[1]
        assert torch.equal(part.tokens, whole.tokens[rows, :length])
        assert torch.equal(part.classes, whole.classes[rows, :length])
        assert (whole.classes[rows, length:] < 0).all()
