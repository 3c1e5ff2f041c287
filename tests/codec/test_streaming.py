"""Streaming: chunks give what the whole gives, at the stated latency, from a state of constant size and one owner."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.artifact import load_part
from segue.bundle import BUNDLED
from segue.codec.soundstream import CodecConfig, SoundStream
from segue.codec.spectral import SpectralConfig
from segue.codec.streaming import LONG_CHUNK_FRAMES, decode_chunks, encode_chunks
from segue.errors import SegueError

HOP = 320
FRAMES = 40
RAGGED = FRAMES * HOP - 123
DELAY = {"spectral": 480, "seanet": 0, "bundled": 480}


@cache
def made(name: str) -> SoundStream:
    return SoundStream.from_part(load_part(BUNDLED / "codec")) if name == "bundled" else tiny.make_codec(name)


@cache
def whole(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three rows of sound that end within a frame, their codes and what these decode to, without a stream."""
    wave = tiny.waves(3, FRAMES * HOP / 16_000, seed=7)[:, :RAGGED]
    codes = made(name).encode(wave)
    return wave, codes, made(name).decode(codes)


@pytest.fixture(params=["spectral", "seanet"])
def pair(request) -> str:
    return request.param


def cuts(frames: int, chunk: int) -> list[int]:
    return [*range(0, frames, chunk), frames]


def through(codec: SoundStream, wave: torch.Tensor, bounds: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and sound of a wave cut at `bounds`, in frames, encoded and decoded in turn in one scope."""
    codes, sound = [], []
    with codec.streaming() as stream:
        for start, end in pairwise(bounds):
            codes.append(codec.encode(wave[:, start * HOP : end * HOP]))
            sound.append(codec.decode(codes[-1]))
            assert stream.held_samples == end * HOP - sum(piece.shape[1] for piece in sound)
        sound.append(stream.flush())
    return torch.cat(codes, dim=-1), torch.cat(sound, dim=-1)


@pytest.mark.parametrize("chunk", [1, 2, 7, 39, 40])
@pytest.mark.parametrize("name", ["spectral", "seanet", "bundled"])
def test_chunks_give_what_the_whole_gives(name, chunk):
    wave, codes, sound = whole(name)
    chunked_codes, chunked_sound = through(made(name), wave, cuts(FRAMES, chunk))
    assert torch.equal(chunked_codes, codes)
    assert chunked_sound.shape == sound.shape == (3, FRAMES * HOP)
    assert torch.allclose(chunked_sound, sound, atol=1e-4)
    assert sound.std() > 1e-3


def test_it_does_not_matter_where_the_sound_is_cut(pair):
    @settings(max_examples=10, deadline=None)
    @given(st.sets(st.integers(1, FRAMES - 1)), st.integers(1, 3))
    def check(inner, rows):
        wave, codes, sound = whole(pair)
        chunked_codes, chunked_sound = through(made(pair), wave[:rows], [0, *sorted(inner), FRAMES])
        assert torch.equal(chunked_codes, codes[:rows])
        assert torch.allclose(chunked_sound, sound[:rows], atol=1e-4)

    check()


@pytest.mark.parametrize(("window", "hop"), [(640, 160), (480, 160), (400, 80), (320, 64), (640, 80)])
def test_every_window_that_is_allowed_streams(window, hop):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        spectral = SpectralConfig(window, hop, 8, 1, encoder_depth=1, decoder_depth=1, kernel=2)
        codec = SoundStream(CodecConfig(codebook_size=8, code_width=2, num_codebooks=2, spectral=spectral)).eval()
    assert codec.latency_samples == HOP + window - hop
    wave = tiny.waves(1, 9 * HOP / 16_000)
    codes = codec.encode(wave)
    for chunk in (1, 4):
        chunked_codes, sound = through(codec, wave, cuts(9, chunk))
        assert torch.equal(chunked_codes, codes)
        assert torch.allclose(sound, codec.decode(codes), atol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_sound_shorter_than_the_delay_is_whole_after_the_flush(pair, frames):
    codec = made(pair)
    codes = whole(pair)[1][..., :frames]
    stream = codec.streaming()
    sound = torch.cat([*(stream.decode(codes[..., [t]]) for t in range(frames)), stream.flush()], dim=-1)
    assert torch.allclose(sound, codec.decode(codes), atol=1e-4)
    assert sound.shape == (3, frames * HOP)


def test_the_first_layers_stream_too(pair):
    codec, (wave, codes, _) = made(pair), whole(pair)
    with codec.streaming() as stream:
        few = [codec.encode(chunk, num_codebooks=2) for chunk in wave.split(5 * HOP, dim=1)]
        sound = torch.cat([*(codec.decode(chunk) for chunk in few), stream.flush()], dim=-1)
    assert torch.equal(torch.cat(few, dim=-1), codes[:, :2])
    assert torch.allclose(sound, codec.decode(codes[:, :2]), atol=1e-4)


def test_latency_is_that_of_the_config(pair):
    codec = made(pair)
    assert codec.latency_samples == HOP + DELAY[pair]
    assert codec.latency_seconds == pytest.approx({"spectral": 0.050, "seanet": 0.020}[pair])


def test_what_is_given_is_final_and_no_later_than_stated(pair):
    codec, codes = made(pair), whole(pair)[1]
    stream, given_samples = codec.streaming(), 0
    for frame in range(6):
        given_samples += stream.decode(codes[..., [frame]]).shape[1]
        heard = (frame + 1) * HOP
        assert given_samples == max(0, heard + HOP - codec.latency_samples)


def test_no_sample_hears_beyond_the_latency(pair):
    codec, (wave, codes, sound) = made(pair), whole(pair)
    other = tiny.waves(3, FRAMES * HOP / 16_000, seed=8)[:, :RAGGED]
    for moment in (1000, 10 * HOP - 1, 10 * HOP, 9999):
        changed = codec.decode(codec.encode(torch.cat([wave[:, :moment], other[:, moment:]], dim=1)))
        final = moment + 1 - codec.latency_samples
        assert torch.allclose(changed[:, :final], sound[:, :final], atol=1e-5)
        assert not torch.allclose(changed[:, final:], sound[:, final:], atol=1e-3)
    changed = codes.clone()
    changed[..., 10:] = (changed[..., 10:] + 1) % codec.codebook_size
    first = 11 * HOP - codec.latency_samples  # the latency is not overstated either
    assert not torch.allclose(codec.decode(changed)[:, first : first + 80], sound[:, first : first + 80], atol=1e-5)


def test_a_chunk_costs_no_loop_over_its_frames(pair):
    codec, (wave, _, _) = made(pair), whole(pair)
    calls: Counter[int] = Counter()
    handles = [
        layer.register_forward_hook(lambda *_: calls.update([frames]))
        for layer in codec.modules()
        if not list(layer.children())
    ]
    for frames in (1, 30):
        stream = codec.streaming()
        stream.decode(stream.encode(wave[:, : frames * HOP]))
    for handle in handles:
        handle.remove()
    assert calls[1] == calls[30] > 0


def test_the_state_keeps_its_size_over_minutes(pair):
    codec = made(pair)
    stream, sizes = codec.streaming(), set()
    assert stream.state_bytes == 0
    for chunk in range(120):
        frames = (1, 50, 99)[chunk % 3]
        wave = 0.1 * torch.randn(1, frames * HOP, generator=tiny.rng(chunk))
        stream.decode(stream.encode(wave))
        sizes.add(stream.state_bytes)
    assert len(sizes) == 1 and 0 < sizes.pop() < 50_000
    assert stream.held_samples == DELAY[pair]
    stream.close()
    assert stream.state_bytes == 0


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=30))
def test_long_sound_goes_through_in_chunks_of_any_length(lengths):
    codec, (wave, _, _) = made("spectral"), whole("spectral")
    wave = wave[:2, : sum(lengths)]
    chunks = wave.split([*lengths[:-1], wave.shape[1] - sum(lengths[:-1])], 1) if sum(lengths) <= RAGGED else [wave]
    codes = list(encode_chunks(codec, iter(chunks), num_codebooks=3))
    sound = list(decode_chunks(codec, codes))
    if wave.shape[1] == 0:
        assert codes == sound == []
        return
    assert torch.equal(torch.cat(codes, dim=-1), codec.encode(wave, num_codebooks=3))
    assert torch.allclose(torch.cat(sound, dim=-1), codec.decode(torch.cat(codes, dim=-1)), atol=1e-4)


def test_a_search_of_chunks_is_that_of_the_whole(pair):
    codec, (wave, nearest, _) = made(pair), whole(pair)
    searched = codec.encode(wave, candidates=4)
    assert torch.equal(torch.cat(list(encode_chunks(codec, wave.split(7 * HOP, 1), candidates=4)), dim=-1), searched)
    assert not torch.equal(searched, nearest)


def test_large_chunks_are_worked_on_in_pieces(pair):
    codec = made(pair)
    frames = 2 * LONG_CHUNK_FRAMES + 10
    wave = 0.1 * torch.randn(1, frames * HOP - 5, generator=tiny.rng())
    codes = list(encode_chunks(codec, [wave]))
    assert [chunk.shape[-1] for chunk in codes] == [LONG_CHUNK_FRAMES, LONG_CHUNK_FRAMES, 9, 1]
    sound = list(decode_chunks(codec, [torch.cat(codes, dim=-1)]))
    assert max(piece.shape[1] for piece in sound) == LONG_CHUNK_FRAMES * HOP
    assert sum(piece.shape[1] for piece in sound) == frames * HOP


def test_long_work_takes_chunks_as_they_come_and_leaves_an_open_scope_alone(pair):
    codec, (wave, codes, _) = made(pair), whole(pair)
    asked = []

    def microphone():
        for index in range(4):
            asked.append(index)
            yield wave[:, index * HOP : (index + 1) * HOP]

    with codec.streaming():
        first = codec.encode(wave[:, :HOP])
        for index, _ in enumerate(decode_chunks(codec, encode_chunks(codec, microphone()))):
            assert len(asked) <= index + 1 + 2
        second = codec.encode(wave[:, HOP : 2 * HOP])
    assert torch.equal(torch.cat([first, second], dim=-1), codes[..., :2])


@pytest.mark.parametrize(
    "bad", [[torch.zeros(HOP)], [torch.zeros(1, HOP), torch.zeros(2, HOP)], [torch.ones(1, 9) / 0]]
)
def test_long_work_refuses_what_is_no_wave(bad):
    with pytest.raises(SegueError, match="wave"):
        list(encode_chunks(made("spectral"), bad))


@pytest.mark.parametrize("bad", [torch.tensor(3), torch.zeros(12, 4, dtype=torch.int64), torch.full((1, 12, 4), -1)])
def test_long_work_refuses_what_are_no_codes(bad):
    with pytest.raises(SegueError, match="codes"):
        list(decode_chunks(made("spectral"), [bad]))


def test_only_the_last_chunk_may_end_within_a_frame(pair):
    codec, (wave, codes, _) = made(pair), whole(pair)
    with codec.streaming():
        found = codec.encode(wave[:, : HOP + 1])
        assert torch.equal(found, codec.streaming().encode(wave[:, : HOP + 1])) and found.shape[-1] == 2
        assert torch.equal(found[..., :1], codes[..., :1])
        with pytest.raises(SegueError, match=r"321 samples.*multiple of 320"):
            codec.encode(wave[:, HOP + 1 : 2 * HOP])


def test_a_stream_takes_no_lengths(pair):
    wave, codec = whole(pair)[0], made(pair)
    with codec.streaming(), pytest.raises(SegueError, match="lengths"):
        codec.encode(wave, torch.tensor([HOP, HOP, HOP]))
    assert codec.encode(wave, torch.tensor([HOP, HOP, HOP])).shape == (3, 12, FRAMES)


def test_the_number_of_rows_stays_the_same(pair):
    codec, (wave, codes, _) = made(pair), whole(pair)
    with codec.streaming():
        codec.encode(wave[:2, :HOP])
        codec.decode(codes[..., :1])  # decoding has rows of its own
        with pytest.raises(SegueError, match="1 rows in a stream of 2"):
            codec.encode(wave[:1, HOP : 2 * HOP])
        with pytest.raises(SegueError, match="2 rows in a stream of 3"):
            codec.decode(codes[:2, :, 1:2])


def test_a_refused_chunk_changes_nothing(pair):
    codec, (wave, codes, sound) = made(pair), whole(pair)
    with codec.streaming() as stream:
        found = [codec.encode(wave[:, : 3 * HOP])]
        made_of = [codec.decode(codes[..., :3])]
        for bad in (wave[:, :0], wave[0], wave[:, :HOP] / 0, wave[:, :HOP].long()):
            with pytest.raises(SegueError):
                codec.encode(bad)
        for bad in (codes + 99, codes[..., :0], codes[0], codes.float(), torch.tensor(1)):
            with pytest.raises(SegueError):
                codec.decode(bad)
        with pytest.raises(SegueError, match="num_codebooks 13"):
            codec.encode(wave[:, :HOP], num_codebooks=13)
        found.append(codec.encode(wave[:, 3 * HOP :]))
        made_of += [codec.decode(codes[..., 3:]), stream.flush()]
    assert torch.equal(torch.cat(found, dim=-1), codes)
    assert torch.allclose(torch.cat(made_of, dim=-1), sound, atol=1e-4)


def test_a_chunk_that_breaks_halfway_can_be_given_again(pair):
    codec, (_, codes, sound) = made(pair), whole(pair)
    stream = codec.streaming()
    pieces = [stream.decode(codes[..., :10])]

    def breaks(*_):
        raise MemoryError

    handle = list(codec.decoder.modules())[-1].register_forward_hook(breaks)
    with pytest.raises(MemoryError):
        stream.decode(codes[..., 10:])
    handle.remove()
    pieces += [stream.decode(codes[..., 10:]), stream.flush()]
    assert torch.allclose(torch.cat(pieces, dim=-1), sound, atol=1e-4)


def test_leaving_the_scope_forgets_the_state(pair):
    codec, (wave, codes, sound) = made(pair), whole(pair)
    for _ in range(2):
        with codec.streaming() as stream:
            assert codec.stream is stream
            codec.decode(codec.encode(wave[:, : 5 * HOP]))
        assert codec.stream is None and stream.state_bytes == stream.held_samples == 0
    assert torch.equal(codec.encode(wave), codes) and torch.equal(codec.decode(codes), sound)
    for use in (lambda: stream.encode(wave), lambda: stream.decode(codes), stream.flush, stream.__enter__):
        with pytest.raises(SegueError, match="closed"):
            use()
    assert codec.stream is None


def test_an_exception_in_the_scope_leaves_the_codec_usable(pair):
    codec, (wave, codes, sound) = made(pair), whole(pair)
    with pytest.raises(ZeroDivisionError), codec.streaming():
        codec.decode(codec.encode(wave[:, : 5 * HOP]))
        raise ZeroDivisionError
    assert torch.equal(codec.encode(wave), codes) and torch.equal(codec.decode(codes), sound)
    chunked_codes, _ = through(codec, wave, cuts(FRAMES, 20))
    assert torch.equal(chunked_codes, codes)


def test_scopes_do_not_nest_and_the_outer_one_goes_on(pair):
    codec, (wave, codes, _) = made(pair), whole(pair)
    with codec.streaming() as outer:
        first = codec.encode(wave[:, :HOP])
        with pytest.raises(SegueError, match="open on this codec already"), codec.streaming():
            raise AssertionError("entered")
        with pytest.raises(SegueError, match="open on this codec already"), outer:
            raise AssertionError("entered")
        second = codec.encode(wave[:, HOP : 2 * HOP])
    assert torch.equal(torch.cat([first, second], dim=-1), codes[..., :2])
    with tiny.make_codec(pair).streaming(), codec.streaming():
        pass  # another codec's scope is no matter


def test_streams_of_one_codec_do_not_hear_each_other(pair):
    codec, (wave, codes, sound) = made(pair), whole(pair)
    streams = [codec.streaming() for _ in range(3)]
    found: list[list[torch.Tensor]] = [[], [], []]
    for start, end in pairwise(cuts(FRAMES, 9)):
        for row, stream in enumerate(streams):
            chunk = stream.encode(wave[[row], start * HOP : end * HOP])
            assert torch.equal(chunk[0], codes[row, :, start:end])
            found[row].append(stream.decode(chunk))
    for row, stream in enumerate(streams):
        assert torch.allclose(torch.cat([*found[row], stream.flush()], dim=1)[0], sound[row], atol=1e-4)


def test_flushing_ends_the_sound(pair):
    codec, codes = made(pair), whole(pair)[1]
    stream = codec.streaming()
    assert stream.flush().shape == (0, 0)
    stream = codec.streaming()
    stream.decode(codes[..., :5])
    assert stream.flush().shape == (3, DELAY[pair]) and stream.held_samples == 0
    assert stream.flush().shape == (3, 0)
    with pytest.raises(SegueError, match="after flush"):
        stream.decode(codes[..., 5:])


def test_long_sound_is_worked_on_in_pieces_and_is_the_same(pair, monkeypatch):
    codec, (wave, codes, sound) = made(pair), whole(pair)
    sizes = []
    chunk = type(codec).encode_chunk
    monkeypatch.setattr("segue.codec.soundstream.LONG_CHUNK_FRAMES", 5)
    monkeypatch.setattr("segue.codec.streaming.LONG_CHUNK_FRAMES", 5)
    monkeypatch.setattr(
        type(codec), "encode_chunk", lambda self, part, *rest: sizes.append(part.shape[1]) or chunk(self, part, *rest)
    )
    assert torch.equal(codec.encode(wave), codes)
    assert max(sizes) == 5 * HOP and sum(sizes) == wave.shape[1]
    torch.testing.assert_close(codec.decode(codes), sound, atol=1e-4, rtol=0)
