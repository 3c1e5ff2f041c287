"""The token store and the batches cut from it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from segue.data.store import (
    StoreHeader,
    StoreRow,
    TokenStore,
    TokenStoreWriter,
    clear_unfinished,
    read_part,
    write_part,
)
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


def test_codes_slower_than_semantic_tokens_are_cut_at_the_same_instants(tmp_path):
    """12.5 Hz over 25 Hz: a crop begins and ends with a code, and two semantic tokens sound with each."""
    header = dataclasses.replace(HEADER, codec_frame_rate=12.5)
    rows = []
    for name, frames in (("a", 200), ("b", 31)):
        time = np.arange(frames)
        rows.append(dataclasses.replace(clip(name, frames), semantic=np.arange(2 * frames), codes=np.stack([time] * 3)))
    written(tmp_path, rows, header)
    with pytest.raises(SegueError, match=r"expected \(3, 31\) and \(62,\)"):
        TokenStoreWriter(tmp_path / "other", header).add(dataclasses.replace(rows[1], semantic=np.arange(61)))
    store = TokenStore.open(tmp_path)
    layout, seen = Layout(fine_stage(600, 3, 1, 1200, codec_frame_rate=12.5, crop_seconds=1)), set()
    batches = TokenBatches(store, layout, seed=0, batch_size=6)
    for step in range(200):
        batch = batches.batch(step)
        for row, (index, start, stop) in enumerate(batches.crops(step)):
            ends = bool((batch.classes[row] == 1200).any())
            length = int((batch.slots[row] >= 0).nonzero()[-1]) + (1 if ends else 2)
            semantic, coarse, fine = layout.streams(batch.tokens[row, :length])
            assert start % 2 == stop % 2 == 0 and stop - start <= 24
            assert torch.equal(semantic[0], torch.arange(start, stop))
            assert torch.equal(coarse[0], torch.arange(start // 2, stop // 2)) and torch.equal(fine[1], coarse[0])
            assert ends == (stop == len(store.semantic(index)))
            seen.add((index, ends))
    assert {(0, False), (1, True)} <= seen
    for wrong in (coarse_stage(600, 2, 1200), coarse_stage(600, 2, 1200, 12.5, 25.0), semantic_stage(600)):
        with pytest.raises(SegueError, match="store"):
            TokenBatches(store, Layout(wrong), seed=0, batch_size=2)


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


def test_clips_that_are_added_together_are_never_in_two_files(tmp_path):
    writer = TokenStoreWriter(tmp_path, HEADER, rows_per_file=2)
    writer.add(clip("a", 9))
    writer.add(clip("b", 9), clip("c", 9), clip("d", 9))
    assert len(list(tmp_path.glob("*.parquet"))) == 1 and writer.done_ids() == set("abcd")
    with pytest.raises(SegueError, match="'b' is there already"):
        writer.add(clip("e", 9), clip("b", 9))
    with pytest.raises(SegueError, match="'f' is there already"):
        writer.add(clip("f", 9), clip("f", 9))
    writer.add(clip("e", 9), clip("f", 9))
    assert [fact["id"] for fact in TokenStore.open(tmp_path).facts] == list("abcdef")


def test_long_clips_are_on_disk_before_there_are_many(tmp_path):
    writer = TokenStoreWriter(tmp_path, HEADER, rows_per_file=256, seconds_per_file=1.0)
    for name, frames, files in (("a", 30, 0), ("b", 30, 1), ("c", 500, 2), ("d", 10, 2)):
        writer.add(clip(name, frames))
        assert len(list(tmp_path.glob("*.parquet"))) == files
    assert writer.done_ids() == set("abc")


def test_files_with_names_of_their_own_belong_to_the_store(tmp_path):
    write_part(tmp_path / "part-g12.parquet", HEADER, [clip("a", 9), clip("b", 11)], note="two of them")
    ids, seconds, note = read_part(tmp_path / "part-g12.parquet", HEADER)
    assert (ids, seconds, note) == (["a", "b"], pytest.approx(0.4), "two of them")
    writer = TokenStoreWriter(tmp_path, HEADER)
    assert writer.done_ids() == {"a", "b"}
    writer.add(clip("c", 9))
    writer.flush()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-00000.parquet", "part-g12.parquet"]
    assert {fact["id"] for fact in TokenStore.open(tmp_path).facts} == {"a", "b", "c"}


def test_beginnings_of_files_are_cleared_away(tmp_path):
    written(tmp_path, [clip("a", 9)])
    (tmp_path / ".part-00001.parquet.x1.part").write_bytes(b"PAR")
    assert len(TokenStore.open(tmp_path)) == 1
    clear_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.parquet"]


ROWS = [clip("a", 10), dataclasses.replace(clip("b", 7), consent="form 12", speaker="x")]
COLUMNS = ["id", "source", "speaker", "seconds", "licence", "consent", "semantic", "durations", "codes"]


def test_columns_are_plain_so_that_anything_reads_them(tmp_path):
    pa = pytest.importorskip("pyarrow")

    written(tmp_path, ROWS)
    schema = pa.parquet.read_schema(tmp_path / "part-00000.parquet")
    assert schema.names == COLUMNS
    for field in schema:
        of = field.type.value_type if pa.types.is_list(field.type) else field.type
        assert pa.types.is_string(of) or pa.types.is_float64(of) or pa.types.is_int16(of)
    header = json.loads(schema.metadata[b"segue"])
    assert (header["semantic_fingerprint"], header["codec_fingerprint"]) == ("semantic-1", "codec-1")


def test_pandas_reads_a_store(tmp_path):
    pandas = pytest.importorskip("pandas")
    written(tmp_path, [*ROWS, clip("c", 5)])
    frame = pandas.concat(map(pandas.read_parquet, sorted(tmp_path.glob("part-*.parquet"))))
    assert list(frame.columns) == COLUMNS and list(frame.id) == ["a", "b", "c"]
    assert frame.consent.iloc[1] == "form 12" and pandas.isna(frame.consent.iloc[0])
    codes = np.asarray(frame.codes.iloc[0]).reshape(-1, 3)
    assert np.array_equal(codes.T, ROWS[0].codes)
    assert np.array_equal(np.repeat(frame.semantic.iloc[1], frame.durations.iloc[1]), ROWS[1].semantic)


def test_datasets_reads_a_store(tmp_path):
    datasets = pytest.importorskip("datasets")
    written(tmp_path / "store", [*ROWS, clip("c", 5)])
    files = sorted(map(str, (tmp_path / "store").glob("part-*.parquet")))
    found = datasets.Dataset.from_parquet(files, cache_dir=str(tmp_path / "cache"))
    assert found.column_names == COLUMNS and found["id"][:] == ["a", "b", "c"] and found[1]["consent"] == "form 12"
    assert np.array_equal(np.array(found[0]["codes"]).reshape(-1, 3), ROWS[0].codes.T)
    assert np.array_equal(np.repeat(found[1]["semantic"], found[1]["durations"]), ROWS[1].semantic)


def test_duckdb_reads_a_store(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    written(tmp_path, [*ROWS, clip("c", 5)])
    glob = f"{tmp_path}/part-*.parquet"
    rows = duckdb.sql(f"select id, consent, list_sum(durations), codes from '{glob}' order by id").fetchall()
    assert [row[:3] for row in rows] == [("a", None, 5), ("b", "form 12", 4), ("c", None, 3)]
    assert rows[0][3] == ROWS[0].codes.T.reshape(-1).tolist()
    told = duckdb.sql(f"select value from parquet_kv_metadata('{glob}') where key = 'segue'::blob").fetchall()
    assert {json.loads(bytes(value))["codec_fingerprint"] for (value,) in told} == {"codec-1"}
