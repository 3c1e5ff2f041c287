"""Log-mel spectrogram, framed so that mel frames 4t .. 4t+3 are centred inside token t's 640 samples.

Mel frame m covers the 400 samples (25 ms) around the centre of samples [160 m, 160 (m + 1)), 100 frames a second.
Means and deviations are per band and global: normalising an utterance by itself would let its end move its start.

Shapes: wave (B, N) mono float32 at 16 kHz; log-mel (B, 4T, bands), T = ceil(N / 640).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segue.units import samples_to_frames

SAMPLE_RATE = 16_000
HOP_LENGTH = 640
MEL_HOP = 160
MEL_WINDOW = 400
STACK = HOP_LENGTH // MEL_HOP
_FFT = 512
_FLOOR = 1e-5


def frame_counts(lengths: Tensor) -> Tensor:
    """Token frames that cover `lengths` samples (B,): ceil(N / 640)."""
    return (lengths + HOP_LENGTH - 1) // HOP_LENGTH


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """True (B, frames) where a token frame holds some of a row's own samples."""
    return torch.arange(frames, device=lengths.device) < frame_counts(lengths)[:, None]


def mel_filterbank(bands: int) -> Tensor:
    """Triangles of height 1, evenly spaced on Slaney's mel scale from 0 to 8 kHz: (257 bins, bands).

    Source: Slaney, Auditory Toolbox (1998): linear below 1 kHz (66.7 Hz a mel), logarithmic above.
    """
    step = torch.log(torch.tensor(6.4, dtype=torch.float64)) / 27
    top = 15 + torch.log(torch.tensor(SAMPLE_RATE / 2 / 1000, dtype=torch.float64)) / step
    mels = torch.linspace(0, 1, bands + 2, dtype=torch.float64) * top
    edges = torch.where(mels < 15, mels * (200 / 3), 1000 * torch.exp((mels - 15) * step))
    bins = torch.linspace(0, SAMPLE_RATE / 2, _FFT // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


class LogMel(nn.Module):
    """Normalised log-mel features; the statistics are buffers, estimated once from training audio."""

    mean: Tensor
    std: Tensor
    window: Tensor
    filterbank: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("std", torch.ones(bands))
        self.register_buffer("window", torch.hann_window(MEL_WINDOW), persistent=False)
        self.register_buffer("filterbank", mel_filterbank(bands), persistent=False)

    @torch.no_grad()
    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Args: wave (B, N); lengths (B,) in samples, None if rows are full. Returns: (B, 4T, bands)."""
        return self.normalised(self.power(wave, lengths))

    @torch.no_grad()
    def raw(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Before normalisation."""
        return torch.log(self.power(wave, lengths) @ self.filterbank + _FLOOR)

    def normalised(self, power: Tensor, filterbank: Tensor | None = None) -> Tensor:
        """Log-mel (B, 4T, bands) of power spectra, through other bands (257, bands), or (B, 257, bands) a row."""
        bands = self.filterbank if filterbank is None else filterbank
        return (torch.log(power @ bands + _FLOOR) - self.mean) / self.std

    @torch.no_grad()
    def power(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Power spectra (B, 4T, 257). Samples beyond a row's length count as silence, whatever they hold."""
        samples = wave.shape[1]
        if lengths is not None:
            wave = wave.masked_fill(torch.arange(samples, device=wave.device) >= lengths[:, None], 0.0)
        overhang = (MEL_WINDOW - MEL_HOP) // 2
        covered = HOP_LENGTH * samples_to_frames(samples, HOP_LENGTH)
        framed = F.pad(wave, (overhang, covered - samples + overhang)).unfold(1, MEL_WINDOW, MEL_HOP)
        spectrum = torch.fft.rfft(framed * self.window, n=_FFT)
        return spectrum.real.square() + spectrum.imag.square()

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Keep per-band statistics (bands,), rounded to half precision: the form in which they are shipped."""
        self.mean.copy_(mean.half())
        self.std.copy_(std.clamp(min=1e-2).half())


def silenced(log_mel: Tensor, valid: Tensor) -> Tensor:
    """Log-mel (B, 4T, bands) with zeros after a row's end, as what is before its beginning; valid (B, T)."""
    return log_mel.masked_fill(~valid.repeat_interleave(STACK, dim=1)[..., None], 0.0)


class Moments:
    """Streaming per-dimension mean and deviation, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        """Args: rows (n, D)."""
        rows = rows.double()
        total, squares = rows.sum(0), rows.square().sum(0)
        self.total = total if self.total is None else self.total + total
        self.squares = squares if self.squares is None else self.squares + squares
        self.count += rows.shape[0]

    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """Both (D,) float32."""
        assert self.total is not None and self.squares is not None and self.count > 0
        mean = self.total / self.count
        variance = (self.squares / self.count - mean.square()).clamp(min=0)
        return mean.float(), variance.sqrt().float()
