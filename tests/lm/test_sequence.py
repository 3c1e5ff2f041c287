"""The layout of a sequence as properties: it loses nothing, mixes nothing up and lines streams up in time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.config import from_dict, to_dict
from segue.errors import SegueError
from segue.lm.sequence import NOT_PREDICTED, SEPARATOR, START, Layout, pad
from segue.lm.stage import Stage, Stream, coarse_stage, fine_stage, semantic_stage


@st.composite
def laid_out(draw):
    vocabulary, size = draw(st.integers(2, 9)), draw(st.integers(2, 9))
    coarse, fine = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    rate = draw(st.sampled_from([12.5, 25.0, 50.0, 75.0]))
    stage = draw(
        st.sampled_from(
            [
                semantic_stage(vocabulary, codec_frame_rate=rate),
                coarse_stage(vocabulary, coarse, size, codec_frame_rate=rate),
                fine_stage(vocabulary, coarse + fine, coarse, size, codec_frame_rate=rate),
                fine_stage(vocabulary, coarse + fine, coarse, size, codec_frame_rate=rate, prefix=("coarse",)),
            ]
        )
    )
    frames = draw(st.integers(1, 12))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    streams = [torch.randint(0, s.size, (s.num_codebooks, s.frames(frames)), generator=rng) for s in stage.streams]
    return Layout(stage, draw(st.sampled_from(["time", "index"]))), streams


@given(laid_out(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_only_the_target_is_predicted(case, ends):
    layout, streams = case
    batch = layout.train(streams[:-1], streams[-1], ends)
    tokens, slots, classes = batch.tokens[0], batch.slots[0], batch.classes[0]
    for expected, found in zip(streams, layout.streams(tokens), strict=True):
        assert torch.equal(expected, found)
    assert tokens[0] == START
    assert int((tokens == SEPARATOR).sum()) == len(streams) - 1
    predicted = classes != NOT_PREDICTED
    assert torch.equal(predicted, slots >= 0)
    assert int(predicted.sum()) == streams[-1].numel() + ends
    for place in torch.nonzero(predicted).flatten().tolist():
        first, count = layout.slot(int(slots[place]))
        assert 0 <= classes[place] < count
        following = first + classes[place]
        assert following == (tokens[place + 1] if place + 1 < len(tokens) else layout.end)


@given(laid_out())
@settings(max_examples=40, deadline=None)
def test_ranges_of_ids_are_disjoint(case):
    layout, _ = case
    ids = [START, SEPARATOR, layout.end]
    for stream in layout.stage.streams:
        for offset in layout.offsets(stream):
            ids.extend(range(offset, offset + stream.size))
    assert sorted(ids) == list(range(layout.num_ids))


@given(laid_out(), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_positions_rise_within_a_stream_and_go_on_in_decoding(case, known):
    layout, streams = case
    known = min(known, streams[-1].shape[1])
    tokens, positions = layout.read(streams[:-1], streams[-1])
    openings = torch.nonzero(tokens <= SEPARATOR).flatten().tolist()
    for begin, stop in zip(openings, [*openings[1:], len(tokens)], strict=True):
        steps = positions[begin:stop].diff()
        assert (steps > 0).all() and torch.allclose(steps, steps[:1].expand_as(steps), atol=1e-5)
        if layout.scheme == "time":
            assert positions[begin + 1] == 0
    part, first = layout.read(streams[:-1], streams[-1][:, :known])
    ahead = layout.ahead(known, streams[-1].shape[1] - known, len(part))
    assert torch.allclose(torch.cat([first, ahead]), positions)


def test_a_target_stands_where_its_prefix_stands():
    layout = Layout(coarse_stage(5, 4, 7), "time")
    _, positions = layout.read([torch.zeros(1, 3, dtype=torch.long)], torch.zeros(4, 6, dtype=torch.long))
    assert positions[1:4].tolist() == [0, 2, 4]
    codes = positions[5:].view(6, 4)
    assert codes[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert codes[1].tolist() == [1, 1.25, 1.5, 1.75]


def test_codes_slower_than_their_prefix_stand_in_its_time():
    layout = Layout(coarse_stage(5, 4, 7, codec_frame_rate=12.5), "time")
    _, positions = layout.read([torch.zeros(1, 6, dtype=torch.long)], torch.zeros(4, 3, dtype=torch.long))
    assert positions[1:7].tolist() == [0, 1, 2, 3, 4, 5]
    assert positions[8:].view(3, 4)[1].tolist() == [2, 2.5, 3, 3.5]


def test_padding_is_on_the_right_and_never_predicted():
    layout = Layout(semantic_stage(5))
    short, long = (layout.train([], torch.ones(1, n, dtype=torch.long), True) for n in (2, 5))
    batch = pad([short, long])
    assert batch.tokens.shape == (2, 6)
    assert torch.equal(batch.tokens[0, :3], short.tokens[0])
    assert (batch.classes[0, 3:] == NOT_PREDICTED).all() and (batch.slots[0, 3:] == -1).all()


def test_time_needs_durations():
    with pytest.raises(SegueError, match="deduplicate_semantic"):
        Layout(semantic_stage(5, deduplicate=True), "time")
    Layout(semantic_stage(5, deduplicate=True), "index")


def test_a_stage_survives_json_and_refuses_nonsense():
    for stage in (semantic_stage(9), coarse_stage(9, crop_seconds=4), fine_stage(9, prefix=("coarse",))):
        assert from_dict(Stage, to_dict(stage)) == stage
    with pytest.raises(SegueError, match="crop_seconds"):
        semantic_stage(9, crop_seconds=0.01)
    with pytest.raises(SegueError):
        Stream("semantic", 0, 1, 0, 2)
    with pytest.raises(SegueError, match="prefix"):
        fine_stage(9, prefix=("fine",))
