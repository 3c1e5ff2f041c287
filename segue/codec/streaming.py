"""Streaming: the codec on consecutive chunks of one sound, with the same result as on the whole of it.

chunk (B, n) -> codes (B, q, t) -> chunk (B, n'). Every layer is causal, so a chunk needs no more of the past than each
convolution's left context and each overlap's tail. That is the `Memory`: layers read and write it, a `CodecStream`
owns it, and nothing else keeps state.

Encoding holds nothing back: each whole frame gives its codes at once. Decoding gives a sample once no later code can
change it. The decoder's overlap delays that by `delay_samples` (frame-domain pair: window - hop, 30 ms; SEANet: none):
after T frames T * hop_length - delay_samples samples are out, and `flush` gives the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segue.errors import SegueError

Memory = dict[nn.Module, Tensor]
"""Layer -> what it keeps of the past. Its tensors are replaced, never changed, so a shallow copy is a snapshot."""

LONG_CHUNK_FRAMES = 500
"""The most that `encode_chunks` and `decode_chunks` work on at once: 10 s at 50 Hz."""


def with_past(x: Tensor, count: int, layer: nn.Module, memory: Memory | None) -> Tensor:
    """Put the `count` steps before it in front of a chunk; at the beginning of a sound they are zeros.

    Args:
        x: (..., n).
        count: steps of left context.
        layer: whose context it is.
        memory: of the chunks so far, brought up to date; None if x is a whole sound.

    Returns:
        (..., count + n).
    """
    if count == 0:
        return x
    if memory is None:
        return F.pad(x, (count, 0))
    before = memory.get(layer)
    joined = F.pad(x, (count, 0)) if before is None else torch.cat([before, x], dim=-1)
    memory[layer] = joined[..., -count:].clone()  # a view would keep the whole chunk
    return joined


class ChunkCodec(Protocol):
    """What streaming asks of a codec; `SoundStream` is one.

    Attributes:
        hop_length: samples a frame.
        delay_samples: by which `decode_chunk` is late when it has a memory.
        stream: whose scope is open.
    """

    hop_length: int
    delay_samples: int
    stream: CodecStream | None

    def streaming(self) -> CodecStream:
        """A new stream."""

    def encode_chunk(
        self, wave: Tensor, memory: Memory | None, num_codebooks: int | None, candidates: int = 1
    ) -> Tensor:
        """wave (B, n) -> codes (B, q, t)."""

    def decode_chunk(self, codes: Tensor, memory: Memory | None) -> Tensor:
        """codes (B, q, t) -> wave (B, t * hop_length)."""

    def decode_rest(self, rows: int, memory: Memory) -> Tensor:
        """What follows the last codes: wave (rows, at least delay_samples)."""


class CodecStream:
    """One sound, or a batch of them, through a codec chunk by chunk. `SoundStream.streaming` makes it.

    Use it by itself, or as a scope in which the codec's own `encode` and `decode` are this stream's:

        with codec.streaming() as stream:
            for chunk in chunks:                    # (B, n), n a multiple of hop_length but for the last
                play(codec.decode(codec.encode(chunk)))
            play(stream.flush())

    Codes and samples, put together, are those of the whole. Encoding and decoding keep separate states, each with its
    own batch size, fixed by its first chunk. Leaving the scope, by an exception too, forgets both; what was not
    flushed is lost. A chunk that is refused changes nothing. A codec has one open scope at most, whatever the thread,
    but any number of streams without one: serve several sounds at once with a stream each.

    Args:
        codec: in evaluation mode; its weights must not change meanwhile.
    """

    def __init__(self, codec: ChunkCodec) -> None:
        self.codec = codec
        self._encoding: Memory = {}
        self._decoding: Memory = {}
        self._rows: dict[str, int] = {}
        self._last_samples: int | None = None
        self._to_drop = codec.delay_samples
        self._held, self._none_left = 0, torch.zeros(0, 0)
        self._flushed = False
        self._closed = False

    @property
    def held_samples(self) -> int:
        """Samples that `decode` still owes and `flush` would give."""
        return self._held

    @property
    def state_bytes(self) -> int:
        """Memory that the state takes; the same from the first chunk on."""
        kept = [*self._encoding.values(), *self._decoding.values()]
        return sum(tensor.untyped_storage().nbytes() for tensor in kept)

    @torch.no_grad()
    def encode(
        self, wave: Tensor, lengths: Tensor | None = None, num_codebooks: int | None = None, candidates: int = 1
    ) -> Tensor:
        """Code the next chunk.

        Args:
            wave: (B, n) mono float32; n is a multiple of hop_length, or else this is the last chunk, and zeros fill
                its last frame.
            lengths: refused: cut the rows alike, or give each a stream of its own.
            num_codebooks: q, layers to use; all by default.
            candidates: as of `SoundStream.encode`.

        Returns:
            codes (B, q, t) int64, t = ceil(n / hop_length).

        Raises:
            SegueError: if the chunk is no wave, lengths are given, the chunk before ended within a frame, the number
                of rows changes, q or candidates are out of range, or the stream is closed.
        """
        self._check_open()
        if lengths is not None:
            raise SegueError("lengths: a stream takes none; cut the rows alike or give each a stream of its own")
        if self._last_samples is not None:
            raise SegueError(
                f"a chunk after one of {self._last_samples} samples: only the last chunk of a stream may have a length "
                f"that is no multiple of {self.codec.hop_length}; open a new stream for another sound"
            )
        self._check_rows("encode", wave)
        memory = self._encoding.copy()
        codes = self.codec.encode_chunk(wave, memory, num_codebooks, candidates)
        self._encoding, self._rows["encode"] = memory, wave.shape[0]
        if wave.shape[1] % self.codec.hop_length:
            self._last_samples = wave.shape[1]
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Turn the next codes into the samples that are final with them.

        Args:
            codes: (B, q, t) indices of the first q layers.

        Returns:
            wave (B, n): after T frames in all, max(0, T * hop_length - delay_samples) samples have been given.

        Raises:
            SegueError: if the codes are none, the number of rows changes, or the stream is flushed or closed.
        """
        self._check_open()
        if self._flushed:
            raise SegueError("codes after flush(): this sound has ended; open a new stream for another")
        self._check_rows("decode", codes)
        memory = self._decoding.copy()
        wave = self.codec.decode_chunk(codes, memory)
        self._decoding, self._rows["decode"] = memory, codes.shape[0]
        self._held, self._none_left = self._held + wave.shape[1], wave.new_zeros(wave.shape[0], 0)
        return self._final(wave)

    @torch.no_grad()
    def flush(self) -> Tensor:
        """End the decoded sound.

        Returns:
            wave (B, held_samples), the rest of it; (0, 0) if nothing was decoded. A second time there is none left.

        Raises:
            SegueError: if the stream is closed.
        """
        self._check_open()
        rest = self._none_left
        if self._held:
            rest = self._final(self.codec.decode_rest(rest.shape[0], self._decoding.copy()))
        self._decoding, self._flushed = {}, True
        return rest

    def close(self) -> None:
        """Forget the state; the stream can't be used any more."""
        self._encoding, self._decoding, self._held, self._closed = {}, {}, 0, True

    def __enter__(self) -> CodecStream:
        self._check_open()
        if self.codec.stream is not None:
            raise SegueError("streaming: a scope is open on this codec already; leave it, or use streams without one")
        self.codec.stream = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.codec.stream = None
        self.close()

    def _final(self, wave: Tensor) -> Tensor:
        """What of the decoder's delayed output (B, n) is neither before the beginning nor beyond the end."""
        drop = min(self._to_drop, wave.shape[1])
        final = wave[:, drop : drop + self._held]
        self._to_drop -= drop
        self._held -= final.shape[1]
        return final

    def _check_open(self) -> None:
        if self._closed:
            raise SegueError("this stream is closed and its state forgotten; open a new one")

    def _check_rows(self, what: str, chunk: Tensor) -> None:
        rows = self._rows.get(what, chunk.shape[0] if chunk.ndim else 0)
        if chunk.ndim and chunk.shape[0] != rows:
            raise SegueError(f"{what}: a chunk of {chunk.shape[0]} rows in a stream of {rows}; keep them the same")


def encode_chunks(
    codec: ChunkCodec, waves: Iterable[Tensor], num_codebooks: int | None = None, candidates: int = 1
) -> Iterator[Tensor]:
    """Code a sound of any length in constant memory.

    Args:
        codec: in evaluation mode; an open scope is neither used nor disturbed.
        waves: consecutive chunks (B, n) of any lengths; less than a frame waits for the next chunk, and large chunks
            are worked on in pieces.
        num_codebooks: q, layers to use; all by default.
        candidates: as of `SoundStream.encode`.

    Yields:
        codes (B, q, t), t >= 1; put together, those of the whole wave.

    Raises:
        SegueError: on iterating, as `CodecStream.encode` does.
    """
    stream, hop_length = codec.streaming(), codec.hop_length
    rest: Tensor | None = None
    for wave in waves:
        if wave.ndim != 2 or (rest is not None and rest.shape[0] != wave.shape[0]):
            wanted = "(B, n)" if rest is None else f"({rest.shape[0]}, n)"
            raise SegueError(f"wave {tuple(wave.shape)}: chunks {wanted} are wanted")
        joined = wave if rest is None or rest.shape[1] == 0 else torch.cat([rest, wave], dim=1)
        whole = joined.shape[1] // hop_length * hop_length
        for start in range(0, whole, LONG_CHUNK_FRAMES * hop_length):
            end = min(whole, start + LONG_CHUNK_FRAMES * hop_length)
            yield stream.encode(joined[:, start:end], num_codebooks=num_codebooks, candidates=candidates)
        rest = joined[:, whole:].clone()
    if rest is not None and rest.shape[1]:
        yield stream.encode(rest, num_codebooks=num_codebooks, candidates=candidates)


def decode_chunks(codec: ChunkCodec, codes: Iterable[Tensor]) -> Iterator[Tensor]:
    """Turn codes of any length into sound in constant memory.

    Args:
        codec: in evaluation mode; an open scope is neither used nor disturbed.
        codes: consecutive chunks (B, q, t) of any lengths; large ones are worked on in pieces.

    Yields:
        wave (B, n), n >= 1; put together, that of all codes at once.

    Raises:
        SegueError: on iterating, as `CodecStream.decode` does.
    """
    stream = codec.streaming()
    for chunk in codes:
        if chunk.ndim != 3:
            raise SegueError(f"codes {tuple(chunk.shape)}: chunks (B, q, t) are wanted")
        for piece in chunk.split(LONG_CHUNK_FRAMES, dim=-1):
            wave = stream.decode(piece)
            if wave.shape[1]:
                yield wave
    rest = stream.flush()
    if rest.shape[1]:
        yield rest
