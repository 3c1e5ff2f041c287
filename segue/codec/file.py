"""Codes in a `.segue` file: codes (q, T), packed to the bit. Reading trusts nothing that it has not checked.

    offset        bytes  content
    0             8      magic: 89 53 45 47 55 45 0D 0A (0x89, "SEGUE", CR, LF)
    8             4      format version, 1
    12            4      H, length of the header, at most 4096
    16            H      header: a JSON object, UTF-8
    16 + H        P      codes, P = ceil(q * T * b / 8)
    16 + H + P    4      CRC-32 (that of zlib and PNG) of every byte before it

The integers of this table are unsigned and little-endian. The header holds `sample_rate` (Hz), `hop_length` (samples
a frame), `num_codebooks` (q, of the file), `codebook_size` (codes a codebook, at most 2^32) and `samples` (exact length
of the sound), whole numbers from 1 to 2^48; `fingerprint` (of the codec, 1 to 128 printable ASCII characters); and
`segue_version` (of the writer, free of effect). Keys that a reader doesn't know have no effect. There are
T = ceil(samples / hop_length) frames; a decoder cuts what lies beyond `samples`.

A code takes b = max(1, ceil(log2(codebook_size))) bits, the highest first, and the first bit of the stream is the
highest of its byte. Codes are in frame-major order: the q codes of frame 0 from the first codebook to the last, then
those of frame 1, and so on; zero bits fill the last byte. So frame t is bits t*q*b to (t+1)*q*b, and a beginning of the
file decodes as a stream; only the whole can be checked against the CRC-32.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

import segue
from segue import units
from segue.artifact import written_file
from segue.codec.refinement import ROUNDS, Watch, refined_latent
from segue.codec.seam import Codec, checked_count
from segue.codec.soundstream import SoundStream
from segue.codec.streaming import LONG_CHUNK_FRAMES
from segue.errors import SegueError

SUFFIX = ".segue"
MAGIC = b"\x89SEGUE\r\n"
FORMAT_VERSION = 1
_CANDIDATES = 4
_FIRST = struct.Struct("<8sII")
_CHECKSUM = struct.Struct("<I")
_HEADER_LIMIT = 4096
_MOST = 2**48  # so that quotients are exact enough in float64
_LIMITS = {
    "sample_rate": _MOST,
    "hop_length": _MOST,
    "num_codebooks": _MOST,
    "codebook_size": 2**32,
    "samples": _MOST,
}
_AGAIN = "copy or encode it again"


@dataclass(frozen=True, eq=False)
class CodedAudio:
    """One recording as codes.

    Attributes:
        codes: (q, T) int16, int32 or int64 indices of the first q codebooks, T = ceil(samples / hop_length).
        sample_rate: of the sound, in Hz.
        hop_length: samples a frame.
        samples: exact length of the sound; the last frame may be partly padding.
        codebook_size: codes a codebook.
        fingerprint: of the codec that made the codes (`codes_fingerprint`); only it and decoders trained on its
            codes can decode them.

    Raises:
        SegueError: if these don't fit each other or a code is out of range.
    """

    codes: Tensor
    sample_rate: int
    hop_length: int
    samples: int
    codebook_size: int
    fingerprint: str

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.dtype not in (torch.int16, torch.int32, torch.int64):
            raise SegueError(f"codes {tuple(self.codes.shape)} {self.codes.dtype}: (q, T) integers are wanted")
        _check_header(self.header(), "coded audio")
        frames = units.samples_to_frames(self.samples, self.hop_length)
        if self.codes.shape[1] != frames:
            raise SegueError(f"codes {tuple(self.codes.shape)}: {self.samples} samples are {frames} frames")
        _check_codes(int(self.codes.min()), int(self.codes.max()), self.codebook_size, "coded audio")

    @property
    def num_codebooks(self) -> int:
        """q."""
        return self.codes.shape[0]

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return units.samples_to_seconds(self.samples, self.sample_rate)

    @property
    def bit_rate(self) -> float:
        """Of the codes alone, in bit/s."""
        return self.num_codebooks * code_bits(self.codebook_size) * self.sample_rate / self.hop_length

    def header(self) -> dict[str, Any]:
        """What the file says about its codes."""
        return {
            "sample_rate": self.sample_rate,
            "hop_length": self.hop_length,
            "num_codebooks": self.num_codebooks,
            "codebook_size": self.codebook_size,
            "samples": self.samples,
            "fingerprint": self.fingerprint,
        }


def encode(
    codec: Codec,
    wave: Tensor,
    num_codebooks: int | None = None,
    candidates: int | None = None,
    refinement: int | None = None,
    watch: Watch | None = None,
) -> CodedAudio:
    """A wave at the codec's sample rate as codes.

    Args:
        codec: that encodes.
        wave: (N,).
        num_codebooks: q; all by default.
        candidates: as of the codec seam; by default those of `candidates_of`.
        refinement: rounds in which the latent is fitted to the wave through the decoder (`segue.codec.refinement`);
            by default those of `refinement_of`.
        watch: told of each round.

    Raises:
        SegueError: if the wave is not a finite float (N,), N >= 1, the codec lacks so many codebooks, candidates
            are not 1 to 64 or rounds not 0 to 1000, or the codec is one that can't be refined.
    """
    candidates = candidates_of(codec, num_codebooks) if candidates is None else candidates
    rounds = refinement_of(codec) if refinement is None else refinement
    if rounds == 0:
        codes = codec.encode(wave[None], num_codebooks=num_codebooks, candidates=candidates)[0]
    elif isinstance(codec, SoundStream):
        count = checked_count(codec, num_codebooks, candidates)
        codes = _coded(codec, refined_latent(codec, wave, rounds, watch), count, candidates)[0]
    else:
        raise SegueError(f"refinement of {rounds} rounds: only Segue's own codecs have what it needs; ask for 0")
    return CodedAudio(
        codes, codec.sample_rate, codec.hop_length, wave.shape[-1], codec.codebook_size, codec.codes_fingerprint
    )


@torch.no_grad()
def _coded(codec: SoundStream, latent: Tensor, count: int, candidates: int) -> Tensor:
    """Latent (1, T, L) -> codes (1, q, T), in the memory of a piece."""
    pieces = latent.split(LONG_CHUNK_FRAMES, dim=1)
    return torch.cat([codec.quantizer.encode_latent(piece, count, candidates) for piece in pieces], dim=-1)


def refinement_of(codec: Codec) -> int:
    """Rounds by which a file's codes are refined: 6, and 0 of codecs that are not Segue's own."""
    return ROUNDS if isinstance(codec, SoundStream) else 0


def candidates_of(codec: Codec, num_codebooks: int | None) -> int:
    """Sequences of codes that are weighed in each frame of a file: 4 up to half of the codebooks, else 1.

    With more codebooks little is left over however they are taken, and a search gains nothing (docs/log.md).
    """
    count = codec.num_codebooks if num_codebooks is None else num_codebooks
    return _CANDIDATES if 2 * count <= codec.num_codebooks else 1


def decode(codec: Codec, coded: CodedAudio) -> Tensor:
    """Codes as a wave (N,), N = `coded.samples`.

    Raises:
        SegueError: if another codec made the codes, or what they say of it is not so.
    """
    here = codec.codes_fingerprint
    if coded.fingerprint != here:
        raise SegueError(
            f"coded audio: made by the codec {coded.fingerprint}, but this codec reads those of {here}; take the first"
        )
    for name in ("sample_rate", "hop_length", "codebook_size"):
        stated, found = getattr(coded, name), getattr(codec, name)
        if stated != found:
            raise SegueError(f"coded audio: {name} {stated}, but the codec {here} has {found}; {_AGAIN}")
    return codec.decode(coded.codes[None])[0, : coded.samples]


def write_codes(path: Path, coded: CodedAudio) -> None:
    """Write a `.segue` file; it takes its place only once it is whole.

    Raises:
        SegueError: if the place can't be written.
    """
    content = to_bytes(coded)
    with written_file(Path(path)) as beside:
        beside.write_bytes(content)


def read_codes(path: Path) -> CodedAudio:
    """Read a `.segue` file; codes (q, T) int64.

    Raises:
        SegueError: if it is missing, something else, of a newer format, cut short, corrupt or at odds with itself.
    """
    path = Path(path)
    if not path.is_file():
        raise SegueError(f"{path}: a folder, not a {SUFFIX} file" if path.is_dir() else f"{path}: no such file")
    try:
        with open(path, "rb") as file:
            return from_stream(file, os.fstat(file.fileno()).st_size, str(path))
    except OSError as error:
        raise SegueError(f"{path}: can't be read ({error.strerror or error}); check its permissions") from error


def to_bytes(coded: CodedAudio) -> bytes:
    """The content of a `.segue` file."""
    header = json.dumps({**coded.header(), "segue_version": segue.__version__}, separators=(",", ":")).encode()
    codes = pack(coded.codes.T.cpu().numpy().reshape(-1), code_bits(coded.codebook_size))
    whole = _FIRST.pack(MAGIC, FORMAT_VERSION, len(header)) + header + codes
    return whole + _CHECKSUM.pack(zlib.crc32(whole))


def from_stream(file: BinaryIO, size: int, where: str) -> CodedAudio:
    """Read the content of a `.segue` file; nothing is read or made before the sizes are known to fit.

    Args:
        file: open at the content's beginning.
        size: of the content, in bytes.
        where: what to call it in messages.

    Raises:
        SegueError: if it is something else, of a newer format, cut short, corrupt or at odds with itself.
    """
    first = file.read(_FIRST.size)
    if not first:
        raise SegueError(f"{where}: the file is empty")
    if first[: len(MAGIC)] != MAGIC[: len(first)]:
        raise SegueError(f"{where}: not a {SUFFIX} file; `segue encode` makes one from sound")
    if len(first) < _FIRST.size:
        raise _cut_short(where, size)
    _, version, length = _FIRST.unpack(first)
    if version != FORMAT_VERSION:
        raise SegueError(f"{where}: {SUFFIX} format {version}, this Segue reads {FORMAT_VERSION}; update Segue")
    if length > _HEADER_LIMIT:
        raise SegueError(f"{where}: a header of {length} bytes, at most {_HEADER_LIMIT} are allowed; {_AGAIN}")
    written = file.read(length)
    if len(written) < length:
        raise _cut_short(where, size)
    header = _header(written, where)
    frames = units.samples_to_frames(header["samples"], header["hop_length"])
    count, bits = header["num_codebooks"] * frames, code_bits(header["codebook_size"])
    wanted = -(-count * bits // 8)
    whole = _FIRST.size + length + wanted + _CHECKSUM.size
    if size != whole:
        raise SegueError(f"{where}: {size} bytes, but its header asks for {whole}; cut short or changed, {_AGAIN}")
    packed, checksum = file.read(wanted), file.read(_CHECKSUM.size)
    if checksum != _CHECKSUM.pack(zlib.crc32(packed, zlib.crc32(first + written))):
        raise SegueError(f"{where}: corrupt, the checksum is not that of its content; {_AGAIN}")
    if packed[-1] & (2 ** (8 * wanted - count * bits) - 1):
        raise SegueError(f"{where}: bits after the last code are not 0; encode it again")
    codes = unpack(packed, bits, count)
    _check_codes(int(codes.min()), int(codes.max()), header["codebook_size"], where)
    return CodedAudio(
        torch.from_numpy(np.ascontiguousarray(codes.reshape(frames, -1).T)),
        sample_rate=header["sample_rate"],
        hop_length=header["hop_length"],
        samples=header["samples"],
        codebook_size=header["codebook_size"],
        fingerprint=header["fingerprint"],
    )


def code_bits(codebook_size: int) -> int:
    """Bits a code takes: max(1, ceil(log2(codebook_size)))."""
    return max(1, (codebook_size - 1).bit_length())


def pack(codes: np.ndarray, bits: int) -> bytes:
    """Codes (N,) as ceil(N * bits / 8) bytes, highest bit first."""
    table = np.empty((codes.size, bits), np.uint8)
    for place in range(bits):
        table[:, place] = (codes >> (bits - 1 - place)) & 1
    return np.packbits(table).tobytes()


def unpack(packed: bytes, bits: int, count: int) -> np.ndarray:
    """The inverse of `pack`: (count,) int64."""
    table = np.unpackbits(np.frombuffer(packed, np.uint8), count=count * bits).reshape(count, bits)
    codes = np.zeros(count, np.int64)
    for place in range(bits):
        codes <<= 1
        codes |= table[:, place]
    return codes


def _header(written: bytes, where: str) -> dict[str, Any]:
    try:
        header = json.loads(written.decode())
    except (ValueError, RecursionError) as error:
        raise SegueError(f"{where}: damaged header, no JSON; {_AGAIN}") from error
    if not isinstance(header, dict):
        raise SegueError(f"{where}: damaged header, no JSON object; {_AGAIN}")
    _check_header(header, where)
    return header


def _check_header(header: dict[str, Any], where: str) -> None:
    for name, most in _LIMITS.items():
        value = header.get(name)
        if type(value) is not int or not 1 <= value <= most:
            raise SegueError(f"{where}: {name} {_shown(value)}, a whole number from 1 to {most} is wanted")
    fingerprint = header.get("fingerprint")
    if not isinstance(fingerprint, str) or not 1 <= len(fingerprint) <= 128:
        raise SegueError(f"{where}: fingerprint {_shown(fingerprint)}, that of a saved codec is wanted")
    if not (fingerprint.isascii() and fingerprint.isprintable()):
        raise SegueError(f"{where}: fingerprint {_shown(fingerprint)}, printable ASCII is wanted")


def _check_codes(lowest: int, highest: int, codebook_size: int, where: str) -> None:
    if lowest < 0 or highest >= codebook_size:
        raise SegueError(f"{where}: codes {lowest} to {highest}, only 0 to {codebook_size - 1} exist")


def _shown(value: object) -> str:
    """A value of an untrusted header, short and printable."""
    plain = value is None or isinstance(value, str | int | float)
    return ascii(value)[:40] if plain else f"of type {type(value).__name__}"


def _cut_short(where: str, size: int) -> SegueError:
    return SegueError(f"{where}: cut short after {size} bytes, within the header; {_AGAIN}")
