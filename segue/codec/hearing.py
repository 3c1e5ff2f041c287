"""Distances as models of hearing have them: what a listener would notice, not what a spectrum shows.

wave (B, N), target (B, N) -> scalar; in between loudness (B, F, bands) in sones, or levels (B, F, bands).

`LoudnessDistance` compares loudness in sones, forgives what louder sound hides, and weighs what a codec adds above what
it leaves out. `StructureDistance` compares how the levels of neighbouring bands and frames rise and fall together.
They are forms of the measures PESQ and ViSQOL that have gradients: a codec trained with them is to be judged also by
measures that were not trained on.

Source: ITU-T P.862 (2001), 10.2, in wideband, without its filters, alignments and compensations, at a level of all
frequencies; as a loss, PMSQE (Martin-Donas et al., IEEE Signal Processing Letters 25, 2018). NSIM: Hines and Harte
(Speech Communication 54, 2012); its spectrogram: ViSQOL (arXiv 2004.09584). Bark scale, hearing threshold: Zwicker and
Terhardt (1980), Terhardt (1979).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segue.codec.stft import stft

BARK_BANDS = 49
LOUDNESS_WINDOW_SECONDS = 0.032
USUAL_POWER = 1e7
"""Of speech at a comfortable level, in the units of P.862: samples are 16-bit integers."""
INAUDIBLE_DB = 200.0
"""Louder than sound gets: beyond some 25 kHz nothing is heard, and powers of ten of the threshold overflow."""
SPLIT_FRAMES = 20
"""Of 16 ms: the stretch within which the worst frames lead."""
GAMMATONE_BANDS = 24
"""Between ViSQOL's 21 for speech and 32 for all sound."""
LOWEST_HZ = 50.0
STRUCTURE_WINDOW_SECONDS = 0.08
FLOOR, RANGE, QUIET = -45.0, 45.0, 20.0
"""Levels are ten logarithms of amplitudes, as ViSQOL has them: the lowest there is, how far below its frame's peak a
band is looked at, and how far below the loudest frame a frame is. Twice as many decibels each."""


def bark(hertz: Tensor) -> Tensor:
    """Critical-band rate of frequencies."""
    return 13.0 * torch.atan(7.6e-4 * hertz) + 3.5 * torch.atan((hertz / 7500.0) ** 2)


def threshold_db(hertz: Tensor) -> Tensor:
    """Sound pressure level of the faintest tone that is heard."""
    kilo = hertz.clamp(min=20.0) / 1000.0
    return 3.64 * kilo**-0.8 - 6.5 * torch.exp(-0.6 * (kilo - 3.3) ** 2) + 1e-3 * kilo**4


def _spectra(wave: Tensor, window: Tensor, hop: int) -> Tensor:
    """Power spectra (B, F, bins) of a wave (B, N), of whole frames; a wave shorter than one is filled up with zeros."""
    wave = F.pad(wave, (0, max(0, window.numel() - wave.shape[-1])))
    spectrum = stft(wave, window, hop, padded=False)
    return spectrum.real.square() + spectrum.imag.square()


class LoudnessDistance(nn.Module):
    """P.862's disturbances, symmetric and asymmetric, in points of opinion: 0 is no difference, 4.5 is much.

    Args:
        sample_rate: in Hz.
    """

    window: Tensor
    bands: Tensor
    threshold: Tensor
    exponent: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        size = round(LOUDNESS_WINDOW_SECONDS * sample_rate)
        edges_hz = (torch.arange(size // 2 + 2) - 0.5).clamp(min=0.0) * sample_rate / size
        edges = bark(edges_hz)
        limits = torch.linspace(0.0, float(edges[-1]), BARK_BANDS + 1)
        inside = torch.minimum(edges[1:, None], limits[1:]) - torch.maximum(edges[:-1, None], limits[:-1])
        share = inside.clamp(min=0.0) / (edges[1:] - edges[:-1])[:, None]
        middle = torch.stack([edges_hz[1:], edges_hz[:-1]]).mean(dim=0)
        centre = (share * middle[:, None]).sum(dim=0) / share.sum(dim=0)
        self.width = float(limits[1])
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        self.register_buffer("threshold", 10 ** (threshold_db(centre).clamp(max=INAUDIBLE_DB) / 10), persistent=False)
        flatter = (6.0 / (bark(centre) + 2.0)).clamp(min=1.0, max=2.0) ** 0.15
        self.register_buffer("exponent", 0.23 * flatter, persistent=False)
        self.register_buffer("bands", share, persistent=False)
        tone = 29.54 * torch.sin(2 * math.pi * 1000.0 * torch.arange(4 * size) / sample_rate)[None]
        self.bands *= 1e4 / float((_spectra(tone, self.window, size // 2) @ share).max())  # 40 dB, and in all 1 sone:
        self.sone = 1.0
        self.sone = 1.0 / (self.width * float(self._loudness(self._density(tone))[0, 0].sum()))

    def _density(self, wave: Tensor) -> Tensor:
        """Power by Bark band (B, F, bands)."""
        return _spectra(wave, self.window, self.window.numel() // 2) @ self.bands

    def _loudness(self, density: Tensor) -> Tensor:
        """Zwicker's law: sones a Bark (B, F, bands)."""
        ratio = 0.5 + 0.5 * density / self.threshold
        loud = (self.threshold / 0.5) ** self.exponent * (ratio.clamp(min=1.0) ** self.exponent - 1.0)
        return self.sone * loud

    def forward(self, wave: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():  # both at the target's gain
            power = (target.square().mean(dim=-1, keepdim=True) * 2**30).clamp(min=1e-3 * USUAL_POWER)
            gain = 2**15 * (USUAL_POWER / power).sqrt()
            theirs = self._density(target * gain)
            their_loudness = self._loudness(theirs)
            audible = (theirs * (theirs > self.threshold)).sum(dim=-1)
        ours = self._density(wave * gain)
        loudness = self._loudness(ours)
        apart = loudness - their_loudness
        hidden = 0.25 * torch.minimum(loudness, their_loudness)
        apart = apart.sign() * (apart.abs() - hidden).clamp(min=0.0)
        ratio = ((ours + 50.0) / (theirs + 50.0)) ** 1.2
        added = torch.where(ratio < 3.0, torch.zeros_like(ratio), ratio.clamp(max=12.0))
        total = BARK_BANDS * self.width
        symmetric = total * (self.width * apart.square().mean(dim=-1) + 1e-8).sqrt()
        asymmetric = total * (apart.abs() * added).mean(dim=-1)
        weight = ((audible + 1e5) / 1e7) ** -0.04
        return 0.1 * _over_time(symmetric * weight) + 0.0309 * _over_time(asymmetric * weight)


def _over_time(disturbance: Tensor) -> Tensor:
    """(B, F) -> scalar: the worst frames lead within stretches, the mean of squares over them."""
    kept, step = disturbance.clamp(max=45.0), SPLIT_FRAMES // 2
    stretches = F.pad(kept, (0, -kept.shape[-1] % step + step)).unfold(-1, SPLIT_FRAMES, step)
    worst = (stretches.pow(6).mean(dim=-1) + 1e-12).pow(1 / 6)
    return (worst.square().mean(dim=-1) + 1e-12).sqrt().mean()


class StructureDistance(nn.Module):
    """One less the neurogram similarity (NSIM) of levels on a gammatone filter bank: 0 is the same, up to 2.

    Args:
        sample_rate: in Hz.
    """

    window: Tensor
    bands: Tensor
    kernel: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        size = round(STRUCTURE_WINDOW_SECONDS * sample_rate)
        offset = 9.26449 * 24.7
        top, low = math.log(sample_rate / 2 + offset), math.log(LOWEST_HZ + offset)
        centre = torch.exp(torch.arange(GAMMATONE_BANDS) / GAMMATONE_BANDS * (top - low) + low) - offset
        width = 1.019 * (centre / 9.26449 + 24.7)
        hertz = torch.arange(size // 2 + 1)[:, None] * sample_rate / size
        window = torch.hann_window(size)
        response = (1.0 + ((hertz - centre) / width) ** 2) ** -4
        self.register_buffer("window", window, persistent=False)
        power = size * window.square().sum()  # so that a band holds mean squares of samples
        self.register_buffer("bands", 2.0 * response / power, persistent=False)
        side = torch.tensor([0.1064, 0.7872, 0.1064])  # a Gaussian of deviation 0.5
        self.register_buffer("kernel", (side[:, None] * side)[None, None], persistent=False)

    def levels(self, wave: Tensor) -> Tensor:
        """Ten logarithms of the amplitude in each band: (B, N) -> (B, F, bands)."""
        power = _spectra(wave, self.window, self.window.numel() // 4) @ self.bands
        return 5.0 * torch.log10(power + 1e-12)

    def _around(self, levels: Tensor) -> Tensor:
        """Weighted mean over neighbouring bands and frames."""
        return F.conv2d(F.pad(levels[:, None], (1, 1, 1, 1), mode="replicate"), self.kernel)[:, 0]

    def forward(self, wave: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            theirs = self.levels(target)
            peak = theirs.amax(dim=-1)
            heard = (peak > peak.amax(dim=-1, keepdim=True) - QUIET).to(wave.dtype)[..., None]
        ours = self.levels(wave)
        floor = (torch.maximum(ours.detach().amax(dim=-1), peak) - RANGE).clamp(min=FLOOR)[..., None]
        ours, theirs = torch.maximum(ours, floor) - FLOOR, torch.maximum(theirs, floor) - FLOOR
        our_mean, their_mean = self._around(ours), self._around(theirs)
        our_spread = (self._around(ours.square()) - our_mean.square()).clamp(min=1e-6)
        their_spread = (self._around(theirs.square()) - their_mean.square()).clamp(min=1e-6)
        shared = self._around(ours * theirs) - our_mean * their_mean
        intensity = (2 * our_mean * their_mean + 1e-4) / (our_mean.square() + their_mean.square() + 1e-4)
        structure = (shared + 4.5e-4) / ((our_spread * their_spread).sqrt() + 4.5e-4)
        return 1.0 - (intensity * structure * heard).mean() / heard.mean().clamp(min=1e-6)
