"""The file of codes: what was written comes back, the layout is the documented one, and nothing bad is believed."""

from __future__ import annotations

import io
import json
import math
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tiny
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segue.codec import file
from segue.codec.file import CodedAudio, from_stream, read_codes, to_bytes, write_codes
from segue.errors import SegueError

KEYS = ("sample_rate", "hop_length", "samples", "codebook_size", "fingerprint", "num_codebooks")
SIZES = st.integers(1, 2**32) | st.sampled_from([1, 2, 3, 16, 1024, 1025, 65_536, 2**32])


def coded(q: int = 3, samples: int = 3333, size: int = 1000, seed: int = 0, hop: int = 320) -> CodedAudio:
    codes = np.random.default_rng(seed).integers(0, size, (q, -(-samples // hop)))
    codes[0, 0], codes[-1, -1] = size - 1, 0
    return CodedAudio(torch.from_numpy(codes), 16_000, hop, samples, size, "0123456789abcdef")


def same(one: CodedAudio, other: CodedAudio) -> bool:
    return torch.equal(one.codes.long(), other.codes.long()) and all(getattr(one, k) == getattr(other, k) for k in KEYS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.segue"


@pytest.fixture
def whole() -> bytes:
    return to_bytes(coded())


def split(whole: bytes) -> tuple[dict, bytes]:
    (length,) = struct.unpack_from("<I", whole, 12)
    return json.loads(whole[16 : 16 + length]), whole[16 + length : -4]


def joined(header: object, codes: bytes, version: int = 1) -> bytes:
    """A file with a true checksum, whatever its header says."""
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    made = b"\x89SEGUE\r\n" + struct.pack("<II", version, len(written)) + written + codes
    return made + struct.pack("<I", zlib.crc32(made))


def outcome(content: bytes) -> CodedAudio | None:
    """What a file of this content is read as; None when it is refused in one line."""
    try:
        return from_stream(io.BytesIO(content), len(content), "here")
    except SegueError as error:
        assert str(error).startswith("here: ") and "\n" not in str(error) and len(str(error)) < 200
        return None


def test_what_was_written_comes_back():
    @settings(max_examples=80, deadline=None)
    @given(q=st.integers(1, 13), samples=st.integers(1, 5000), size=SIZES, hop=st.integers(1, 700), seed=st.integers(0))
    def check(q, samples, size, hop, seed):
        written = coded(q, min(samples, 20 * hop), size, seed, hop)
        read = outcome(to_bytes(written))
        assert (
            read is not None and same(read, written) and read.codes.dtype == torch.int64 and read.codes.is_contiguous()
        )

    check()


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_the_dtype_of_the_codes_changes_no_byte(whole, dtype):
    original = coded()
    other = CodedAudio(original.codes.to(dtype), *(getattr(original, key) for key in KEYS[:5]))
    assert to_bytes(other) == whole


@pytest.mark.parametrize("size", [2, 5, 1024, 2**20])
def test_the_layout_is_the_one_documented(size):
    """Read once more, by the table alone and one bit at a time."""
    original = coded(q=3, samples=3333, size=size)
    whole = to_bytes(original)
    assert whole[:12] == bytes.fromhex("89 53 45 47 55 45 0D 0A 01 00 00 00")
    assert int.from_bytes(whole[-4:], "little") == zlib.crc32(whole[:-4])
    header, packed = split(whole)
    assert {key: header[key] for key in KEYS} == {key: getattr(original, key) for key in KEYS}
    bits = math.ceil(math.log2(size))
    stream = "".join(f"{byte:08b}" for byte in packed)
    assert len(packed) == math.ceil(3 * 11 * bits / 8)
    for frame, layer in np.ndindex(11, 3):
        at = (frame * 3 + layer) * bits
        assert int(stream[at : at + bits], 2) == original.codes[layer, frame]
    assert set(stream[33 * bits :]) <= {"0"}


def test_a_file_takes_the_bits_of_its_codes_and_a_short_header():
    for q, kbits in ((12, 6.0), (3, 1.5)):
        original = coded(q, samples=160_000, size=1024)
        assert original.bit_rate == 1000 * kbits and original.seconds == 10.0
        assert 1250 * kbits < len(to_bytes(original)) < 1250 * kbits + 200


def test_a_file_cut_anywhere_is_refused(whole):
    assert outcome(whole) is not None
    assert [size for size in range(len(whole)) if outcome(whole[:size]) is not None] == []


def test_no_flipped_bit_is_believed(whole):
    number = int.from_bytes(whole, "little")
    for bit in range(8 * len(whole)):
        assert outcome((number ^ (1 << bit)).to_bytes(len(whole), "little")) is None, bit


def test_arbitrary_bytes_are_refused():
    @settings(max_examples=120, deadline=None)
    @given(st.binary(max_size=200), st.integers(0, 16))
    @example(b"", 0)
    @example(b"", 16)
    def check(tail, kept):
        first = b"\x89SEGUE\r\n\x01\x00\x00\x00" + struct.pack("<I", len(tail))
        assert outcome(first[:kept] + tail) is None

    check()


def test_only_the_original_comes_out_of_a_damaged_file(whole):
    original, places = coded(), st.integers(0, len(whole) - 1)

    @settings(max_examples=120, deadline=None)
    @given(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8), st.binary(max_size=3))
    def check(changes, tail):
        damaged = bytearray(whole)
        for place, value in changes:
            damaged[place] = value
        read = outcome(bytes(damaged) + tail)
        assert read is None or (bytes(damaged) + tail == whole and same(read, original))

    check()


ODD = (
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.integers()
    | st.sampled_from([1e400, float("nan"), 2**31, 2**32 + 1, 2**48, 2**48 + 1, 2**63, 10**40, 3334, 6666])
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=2)
)


def test_of_a_changed_header_only_what_it_says_comes_out(whole):
    """The checksum is made anew: what is still believed fits its header, and is written as the very codes it had."""
    header, packed = split(whole)

    @settings(max_examples=150, deadline=None)
    @given(st.dictionaries(st.sampled_from(KEYS), ODD, max_size=3), st.lists(st.sampled_from(KEYS), max_size=1))
    def check(changed, gone):
        stated = {key: value for key, value in {**header, **changed}.items() if key not in gone}
        read = outcome(joined(stated, packed))
        if read is not None:
            assert {key: getattr(read, key) for key in KEYS} == {key: stated[key] for key in KEYS}
            assert split(to_bytes(read))[1] == packed

    check()


@pytest.mark.parametrize(
    ("changed", "about"),
    [
        ({"samples": 2**48}, "asks for"),
        ({"num_codebooks": 2**48}, "asks for"),
        ({"samples": 2**48, "num_codebooks": 2**48, "hop_length": 1, "codebook_size": 1}, "asks for"),
        ({"num_codebooks": 2**48 + 1}, "num_codebooks 281474976710657"),
        ({"samples": 0}, "samples 0"),
        ({"samples": 3333.0}, "samples 3333.0"),
        ({"samples": True}, "samples True"),
        ({"samples": [[1]]}, "samples of type list"),
        ({"hop_length": -320}, "hop_length -320"),
        ({"sample_rate": None}, "sample_rate None"),
        ({"codebook_size": 2**32 + 1}, "codebook_size 4294967297"),
        ({"codebook_size": 999}, "codes 0 to 999, only 0 to 998 exist"),
        ({"fingerprint": ""}, "fingerprint ''"),
        ({"fingerprint": "a\x1b[31mb"}, r"fingerprint 'a\x1b[31mb'"),
        ({"fingerprint": "é"}, r"fingerprint '\xe9'"),
        ({"fingerprint": "x" * 129}, "fingerprint 'xxx"),
    ],
)
def test_a_header_that_lies_is_refused(path, whole, changed, about):
    header, packed = split(whole)
    path.write_bytes(joined(header | changed, packed))
    tracemalloc.start()
    try:
        with pytest.raises(SegueError) as error:
            read_codes(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert about in str(error.value) and str(path) in str(error.value)


def test_keys_of_later_writers_have_no_effect(path, whole):
    header, packed = split(whole)
    path.write_bytes(joined({**header, "title": "x", "segue_version": None}, packed))
    assert same(read_codes(path), coded())


HEADERS = [b"", b"[]", b"1", b"{", b"\xff", b"[" * 4096, b'{"a":' * 800, b'{"samples":1' + b"0" * 4000, b"{}"]


@pytest.mark.parametrize(
    "header",
    [*HEADERS, json.dumps(coded().header()).encode("utf-16"), b" " * 4097],
    ids=lambda header: header[:9].hex(),
)
def test_a_header_that_is_none_is_refused(path, whole, header):
    path.write_bytes(joined(header, split(whole)[1]))
    with pytest.raises(SegueError, match=r"header|sample_rate None"):
        read_codes(path)


def test_each_refusal_says_what_is_wrong(path, whole, tmp_path):
    header, packed = split(whole)
    corrupt = whole[:-10] + bytes([whole[-10] ^ 4]) + whole[-9:]
    contents = {
        "the file is empty": b"",
        "cut short after 5 bytes": whole[:5],
        "cut short after 40 bytes": whole[:40],
        "not a .segue file": b"RIFF" + whole[4:],
        "format 2, this Segue reads 1": joined(header, packed, version=2),
        f"{len(whole) - 1} bytes, but its header asks for {len(whole)}": whole[:-1],
        f"{len(whole) + 1} bytes, but its header asks for {len(whole)}": whole + b"\0",
        "checksum": corrupt,
        "a header of 4294967295 bytes": whole[:12] + b"\xff" * 4 + whole[16:],
        "bits after the last code": joined(header, packed[:-1] + bytes([packed[-1] | 1])),
    }
    for about, content in contents.items():
        path.write_bytes(content)
        with pytest.raises(SegueError, match=about):
            read_codes(path)
    with pytest.raises(SegueError, match="no such file"):
        read_codes(tmp_path / "missing.segue")
    with pytest.raises(SegueError, match="a folder"):
        read_codes(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"codes": torch.zeros(3, 11)},
        {"codes": torch.zeros(1, 3, 11, dtype=torch.int64)},
        {"codes": torch.zeros(0, 11, dtype=torch.int64)},
        {"codes": torch.zeros(3, 0, dtype=torch.int64)},
        {"codes": torch.zeros(3, 10, dtype=torch.int64)},
        {"codes": torch.zeros(3, 12, dtype=torch.int64)},
        {"codes": torch.full((3, 11), 1000)},
        {"codes": torch.full((3, 11), -1)},
        {"sample_rate": 0},
        {"hop_length": 0},
        {"samples": 0},
        {"samples": 3521},
        {"codebook_size": 0},
        {"fingerprint": ""},
    ],
)
def test_codes_that_do_not_fit_are_no_coded_audio(changed):
    original = coded()
    with pytest.raises(SegueError):
        CodedAudio(**{key: getattr(original, key) for key in ("codes", *KEYS[:5])} | changed)


def test_nothing_is_left_of_a_file_that_can_not_be_written(path, whole, tmp_path, small_disk):
    path.write_bytes(whole)
    with small_disk(), pytest.raises(SegueError, match="check folder and space"):
        write_codes(path, coded(q=12, samples=320_000))
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]
    with pytest.raises(SegueError, match="can't be written"):
        write_codes(path / "below.segue", coded())


def test_a_codec_decodes_its_own_codes_alone(path):
    codec, other = tiny.make_codec(), tiny.make_codec(seed=1)
    wave = tiny.waves(1, 0.5)[0, :7777]
    made = file.encode(codec, wave, 3, refinement=0)
    assert (made.num_codebooks, made.samples, made.codebook_size) == (3, 7777, tiny.CODES)
    write_codes(path, made)
    again = file.decode(codec, read_codes(path))
    assert torch.equal(again, codec.decode(codec.encode(wave[None], num_codebooks=3, candidates=4))[0, :7777])
    assert torch.equal(file.encode(codec, wave, 3, 1, 0).codes, codec.encode(wave[None], num_codebooks=3)[0])
    with pytest.raises(SegueError) as error:
        file.decode(other, made)
    assert codec.fingerprint in str(error.value) and other.fingerprint in str(error.value)
    with pytest.raises(SegueError, match="sample_rate 8000, but the codec"):
        file.decode(codec, CodedAudio(made.codes, 8000, 320, 7777, tiny.CODES, codec.fingerprint))
    with pytest.raises(SegueError, match="13"):
        file.decode(codec, CodedAudio(made.codes[:1].expand(13, -1), 16_000, 320, 7777, tiny.CODES, codec.fingerprint))
