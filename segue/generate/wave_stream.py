"""From codes to sound, stretch by stretch, and the seam between a recording and what follows it.

Shapes: wave (N,) mono float32, codes (Q, t). A row is decoded by itself, so that it sounds the same in any company.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from segue.codec.seam import Codec, StreamingCodec
from segue.units import seconds_to_samples

CROSSFADE_SECONDS = 0.02


class _Decoding(Protocol):
    """One sound on its way out of a codec."""

    def decode(self, codes: Tensor) -> Tensor:
        """(1, Q, t) -> the samples (1, n) that are final with it."""

    def flush(self) -> Tensor:
        """The rest, (1, n)."""


class _Whole:
    """For a codec that doesn't stream: everything comes at the end."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._codes: list[Tensor] = []

    def decode(self, codes: Tensor) -> Tensor:
        self._codes.append(codes)
        return torch.zeros(1, 0, device=codes.device)

    def flush(self) -> Tensor:
        return self._codec.decode(torch.cat(self._codes, dim=-1))


class WaveStream:
    """Sound that follows a recording, or that stands alone.

    The decoder first hears the recording's own codes, so that it is warm; then it fades in over the recording's last
    20 ms (at equal amplitude: both sides are the same sound).

    Args:
        codec: of the codes.
        recording: (N,); N may be 0.
        codes: (Q, T) of the recording's end; T may be 0.
        samples: most samples to make after the recording.

    Attributes:
        fade_samples: samples of the recording's end that come out of this stream, faded.
    """

    def __init__(self, codec: Codec, recording: Tensor, codes: Tensor, samples: int) -> None:
        self._decoding: _Decoding = (
            codec.streaming() if isinstance(codec, StreamingCodec) else _Whole(codec)  # type: ignore[assignment]
        )
        heard = codes.shape[1] * codec.hop_length
        self.fade_samples = min(seconds_to_samples(CROSSFADE_SECONDS, codec.sample_rate), heard)
        self._fading = recording[recording.shape[0] - self.fade_samples :]
        angle = (torch.arange(self.fade_samples).to(recording) + 0.5) / max(1, self.fade_samples) * (math.pi / 2)
        self._rising = angle.sin().square()
        self._to_drop, self._to_make = heard - self.fade_samples, self.fade_samples + samples
        self._decoded = codes.shape[1] > 0
        self._ready = self._out(self._decoding.decode(codes[None])) if self._decoded else recording.new_zeros(0)

    def decode(self, codes: Tensor) -> Tensor:
        """The samples (n,) that are final with the next codes (Q, t), t >= 0."""
        if not codes.shape[1]:
            return self._give(self._ready[:0])
        self._decoded = True
        return self._give(self._out(self._decoding.decode(codes[None])))

    def flush(self) -> Tensor:
        """The rest (n,)."""
        return self._give(self._out(self._decoding.flush()) if self._decoded else self._ready[:0])

    def _give(self, samples: Tensor) -> Tensor:
        ready, self._ready = self._ready, samples[:0]
        return torch.cat([ready, samples])

    def _out(self, decoded: Tensor) -> Tensor:
        """What of the decoder's next samples (1, n) is to be heard; it fades in over the recording's end."""
        drop = min(self._to_drop, decoded.shape[1])
        heard = decoded[0, drop:][: self._to_make].to(self._fading)
        faded = min(self._fading.shape[0], heard.shape[0])
        rising, self._rising = self._rising[:faded], self._rising[faded:]
        fading, self._fading = self._fading[:faded], self._fading[faded:]
        self._to_drop -= drop
        self._to_make -= heard.shape[0]
        return torch.cat([fading * (1 - rising) + heard[:faded] * rising, heard[faded:]])
