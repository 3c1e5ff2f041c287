"""Distances between a wave and its reconstruction. wave (B, N) -> scalar.

The multi-scale mel distance hears timbre; the log spectrum as it is also hears a comb of lines that wide mel bands
smooth over; the compressed complex spectrum also hears phase, which speech measures reward; the adversarial losses
ask discriminators.

Source: multi-scale mel distance: SoundStream (arXiv 2107.03312, III.E) and DAC (arXiv 2306.06546, 3.4); log spectra:
Parallel WaveGAN (arXiv 1910.11480, equation 6); hinge and feature-matching losses: SoundStream, equations 1 to 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segue.codec.hearing import LoudnessDistance, StructureDistance
from segue.codec.stft import stft

MEL_WINDOWS = (128, 256, 512, 1024, 2048)
MEL_BANDS = (10, 20, 40, 80, 128)
COMPLEX_WINDOWS = (512, 1024)
LOG_WINDOWS = (512, 1024, 2048)


def mel_filters(bands: int, window: int, sample_rate: int) -> Tensor:
    """Triangular filters on the HTK mel scale: (window // 2 + 1, bands)."""
    top = 2595.0 * torch.log10(torch.tensor(1.0 + sample_rate / 2 / 700.0))
    edges = 700.0 * (10 ** (torch.linspace(0.0, float(top), bands + 2) / 2595.0) - 1.0)
    frequencies = torch.linspace(0.0, sample_rate / 2, window // 2 + 1)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0.0)


class ReconstructionLoss(nn.Module):
    """Mel distance over several windows, and the distance of compressed complex spectra.

    Args:
        sample_rate: in Hz.
        mel_weight: of the mean absolute difference of log mel spectra (natural logarithm).
        complex_weight: of the mean absolute difference of X |X|^-0.5, real and imaginary.
        wave_weight: of the mean absolute difference of the samples.
        log_weight: of the mean absolute difference of log magnitudes (natural logarithm); 0 leaves it out.
        loudness_weight: of the distance in loudness (see `hearing`); 0 leaves it out.
        structure_weight: of the distance in structure (see `hearing`); 0 leaves it out.
    """

    def __init__(
        self,
        sample_rate: int,
        mel_weight: float,
        complex_weight: float,
        wave_weight: float,
        log_weight: float = 0.0,
        loudness_weight: float = 0.0,
        structure_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.log_weight = log_weight
        heard = {"loudness": (loudness_weight, LoudnessDistance), "structure": (structure_weight, StructureDistance)}
        self.heard_weights = {name: weight for name, (weight, _) in heard.items() if weight}
        self.heard = nn.ModuleDict({name: heard[name][1](sample_rate) for name in self.heard_weights})
        self.mel_weight, self.complex_weight, self.wave_weight = mel_weight, complex_weight, wave_weight
        for index, (window, bands) in enumerate(zip(MEL_WINDOWS, MEL_BANDS, strict=True)):
            self.register_buffer(f"window_{index}", torch.hann_window(window), persistent=False)
            self.register_buffer(f"filters_{index}", mel_filters(bands, window, sample_rate), persistent=False)

    def forward(self, wave: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Loss by name, each already weighted: `mel`, `complex`, `wave`, and the others where they are wanted."""
        mel, phase, log = wave.new_zeros(()), wave.new_zeros(()), wave.new_zeros(())
        for index, size in enumerate(MEL_WINDOWS):
            window, filters = getattr(self, f"window_{index}"), getattr(self, f"filters_{index}")
            ours = stft(wave, window, size // 4)
            with torch.no_grad():
                theirs = stft(target, window, size // 4)
            our_power, their_power = _power(ours), _power(theirs)
            mel = mel + F.l1_loss(_log_mel(our_power, filters), _log_mel(their_power, filters))
            if size in COMPLEX_WINDOWS:
                squeeze, other_squeeze = our_power.rsqrt().sqrt(), their_power.rsqrt().sqrt()
                phase = phase + F.l1_loss(ours.real * squeeze, theirs.real * other_squeeze)
                phase = phase + F.l1_loss(ours.imag * squeeze, theirs.imag * other_squeeze)
            if self.log_weight and size in LOG_WINDOWS:
                log = log + F.l1_loss(our_power.log(), their_power.log()) / 2
        losses = {
            "mel": self.mel_weight * mel / len(MEL_WINDOWS),
            "complex": self.complex_weight * phase,
            "wave": self.wave_weight * F.l1_loss(wave, target),
        }
        if self.log_weight:
            losses["log"] = self.log_weight * log / len(LOG_WINDOWS)
        return losses | {name: self.heard_weights[name] * heard(wave, target) for name, heard in self.heard.items()}


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square() + 1e-6


def _log_mel(power: Tensor, filters: Tensor) -> Tensor:
    return (power.sqrt() @ filters).clamp(min=1e-3).log()


def discriminator_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Hinge loss of the discriminators; the last entry of each list holds the logits."""
    return torch.stack(
        [F.relu(1 - r[-1]).mean() + F.relu(1 + f[-1]).mean() for r, f in zip(real, fake, strict=True)]
    ).mean()


def generator_loss(fake: list[list[Tensor]]) -> Tensor:
    """Hinge loss of the codec: be taken for real."""
    return torch.stack([F.relu(1 - f[-1]).mean() for f in fake]).mean()


def feature_distances(real: list[list[Tensor]], fake: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """How far the discriminators' inner layers are apart, and their mean size on real sound: (layers,) each.

    The mean of the ratios is the feature-matching loss.
    """
    pairs = [pair for rows, others in zip(real, fake, strict=True) for pair in zip(rows[:-1], others[:-1], strict=True)]
    apart = torch.stack([F.l1_loss(theirs, ours.detach()) for ours, theirs in pairs])
    return apart, torch.stack([ours.detach().abs().mean() for ours, _ in pairs])
