"""The token store and the batches cut from it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from segue.data.store import StoreHeader, StoreRow, TokenStore, TokenStoreWriter
from segue.data.token_batches import TokenBatches
from segue.errors import SegueError
from segue.lm.sequence import NOT_PREDICTED, Layout
from segue.lm.stage import coarse_stage, fine_stage, semantic_stage

HEADER = StoreHeader("semantic-1", "codec-1", vocab_size=600, num_codebooks=3, codebook_size=1200)


def clip(name: str, frames: int, seed: int = 0) -> StoreRow:
    """Every token tells its own time, so that a crop shows where it was cut; every second unit repeats."""
    time = np.arange(frames)
    codes = np.stack([time, time + 1, time + 2])
    semantic = np.arange(-(-frames // 2))
    semantic[1::4] = semantic[0::4][: len(semantic[1::4])]
    return StoreRow(name, f"{name}.wav", "", frames / 50, "CC-BY-4.0", None, semantic, codes)


def written(folder, rows, header=HEADER, rows_per_file=2) -> None:
    writer = TokenStoreWriter(folder, header, rows_per_file)
    for row in rows:
        writer.add(row)
    writer.flush()


def test_what_is_written_is_read(tmp_path):
    rows = [clip("a", 10), clip("b", 7), dataclasses.replace(clip("c", 1), consent="form 12", speaker="x")]
    written(tmp_path, rows)
    assert len(list(tmp_path.iterdir())) == 2
    store = TokenStore.open(tmp_path)
    assert len(store) == 3 and store.header == HEADER and store.seconds == pytest.approx(18 / 50)
    for index, row in enumerate(rows):
        assert np.array_equal(store.semantic(index), row.semantic)
        assert np.array_equal(store.codes(index), row.codes.T)
        assert store.facts[index]["id"] == row.id and store.facts[index]["consent"] == row.consent
    assert len(TokenStore.open(tmp_path, ids=["b"])) == 1


def test_an_interrupted_writer_goes_on(tmp_path):
    first = TokenStoreWriter(tmp_path, HEADER, 2)
    for name in "abc":
        first.add(clip(name, 9))
    assert first.done_ids() == {"a", "b"}
    second = TokenStoreWriter(tmp_path, HEADER, 2)
    assert second.done_ids() == {"a", "b"}
    with pytest.raises(SegueError, match="'a' is there already"):
        second.add(clip("a", 9))
    second.add(clip("c", 9))
    second.flush()
    assert [fact["id"] for fact in TokenStore.open(tmp_path).facts] == ["a", "b", "c"]


def test_other_tokenizers_are_refused(tmp_path):
    written(tmp_path, [clip("a", 9)])
    other = dataclasses.replace(HEADER, codec_fingerprint="codec-2")
    with pytest.raises(SegueError, match="codec_fingerprint"):
        TokenStoreWriter(tmp_path, other)
    written(tmp_path / "other", [clip("b", 9)], other)
    (tmp_path / "other" / "part-00000.parquet").rename(tmp_path / "part-00001.parquet")
    with pytest.raises(SegueError, match="other tokenizers"):
        TokenStore.open(tmp_path)


def test_damage_and_nothing_are_refused(tmp_path):
    with pytest.raises(SegueError, match="no token store"):
        TokenStore.open(tmp_path)
    written(tmp_path, [clip("a", 900)])
    path = tmp_path / "part-00000.parquet"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:40] + bytes(400) + whole[440:]):
        path.write_bytes(damaged)
        with pytest.raises(SegueError, match=r"damaged|no token store"):
            TokenStore.open(tmp_path)


def test_tokens_that_do_not_fit_are_refused(tmp_path):
    writer = TokenStoreWriter(tmp_path, HEADER)
    good = clip("a", 9)
    for wrong in (
        dataclasses.replace(good, semantic=good.semantic[:-1]),
        dataclasses.replace(good, codes=good.codes[:2]),
        dataclasses.replace(good, codes=good.codes + 1200),
        dataclasses.replace(good, semantic=good.semantic - 1),
    ):
        with pytest.raises(SegueError, match="'a'"):
            writer.add(wrong)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> TokenStore:
    folder = tmp_path_factory.mktemp("store")
    written(folder, [clip("a", 400), clip("b", 99), clip("c", 1000)])
    return TokenStore.open(folder)


def test_semantic_and_codes_of_a_crop_start_at_the_same_sample(store):
    layout = Layout(fine_stage(600, 3, 1, 1200, crop_seconds=1))
    batches = TokenBatches(store, layout, seed=0, batch_size=6)
    for step in range(20):
        batch = batches.batch(step)
        for row, (clip_index, start, stop) in enumerate(batches.crops(step)):
            ends = stop == store.code_frames()[clip_index]
            length = int((batch.slots[row] >= 0).nonzero()[-1]) + (1 if ends else 2)
            semantic, coarse, fine = layout.streams(batch.tokens[row, :length])
            assert start % 2 == 0 and coarse[0, 0] == start and fine[0, 0] == start + 1
            assert torch.equal(coarse[0], torch.arange(start, stop))
            assert torch.equal(fine[1], torch.arange(start + 2, stop + 2))
            full = torch.from_numpy(store.semantic(clip_index).astype(np.int64))
            assert torch.equal(semantic[0], full[start // 2 : -(-stop // 2)])


def test_the_end_is_a_target_only_where_the_clip_ends(store):
    layout = Layout(coarse_stage(600, 2, 1200, crop_seconds=3))
    batches = TokenBatches(store, layout, seed=0, batch_size=8)
    seen = {True: 0, False: 0}
    for step in range(20):
        batch = batches.batch(step)
        for row, (index, _, stop) in enumerate(batches.crops(step)):
            ends = stop == store.code_frames()[index]
            seen[ends] += 1
            last = batch.classes[row][batch.classes[row] != NOT_PREDICTED][-1]
            assert (last == 1200) == ends
    assert min(seen.values()) > 3


def test_a_batch_is_a_pure_function_of_seed_and_step(store):
    layout = Layout(semantic_stage(600, crop_seconds=1))
    one, two = (TokenBatches(store, layout, seed=1, batch_size=4) for _ in range(2))
    two.batch(7)
    assert torch.equal(one.batch(3).tokens, two.batch(3).tokens)
    assert not torch.equal(one.batch(3).tokens[:, :20], one.batch(4).tokens[:, :20])
    other = TokenBatches(store, layout, seed=2, batch_size=4)
    assert one.crops(3) != other.crops(3)


def test_long_clips_are_drawn_more_often(store):
    batches = TokenBatches(store, Layout(semantic_stage(600, crop_seconds=1)), seed=0, batch_size=8)
    drawn = [clip_index for step in range(200) for clip_index, _, _ in batches.crops(step)]
    share = np.bincount(drawn, minlength=3) / len(drawn)
    assert np.allclose(share, store.code_frames() / store.code_frames().sum(), atol=0.04)


def test_repeats_go_where_the_stage_wants_none(store):
    layout = Layout(semantic_stage(600, crop_seconds=1, deduplicate=True), "index")
    tokens = TokenBatches(store, layout, seed=0, batch_size=2).batch(0).tokens
    for row in tokens:
        units = row[row > 1]
        assert 0 < len(units) < 25 and (units.diff() != 0).all()


def test_a_stage_of_other_sizes_is_refused(store):
    for stage in (
        semantic_stage(601),
        coarse_stage(600, 2, 1024),
        fine_stage(600, 4, 2, 1200),
        semantic_stage(600, codec_frame_rate=75.0),
    ):
        with pytest.raises(SegueError, match="store"):
            TokenBatches(store, Layout(stage), seed=0, batch_size=2)
