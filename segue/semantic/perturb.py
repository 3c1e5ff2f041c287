"""The same words from another mouth: log-mel as another vocal tract, pitch and room would have made it.

Formants and harmonics are moved along the frequency axis, each by a factor of its own, by reading the spectrum through
warped mel bands; a smooth curve over the bands stands for microphone and room. Time does not move. A pupil that hears
this and is asked for what was said unperturbed learns to do without the voice. For music the warp must stay 1: there
pitch is the content.

Shapes: power (B, T, 257); log-mel (B, T, bands); draws a row (B,).
Source: vocal tract length perturbation, Jaitly and Hinton 2013; for units without the voice: ContentVec, arXiv
2204.09224.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segue.semantic.features import LogMel, mel_filterbank

_STEPS = 11
_KNEE = 0.85  # of the spectrum; above it the warp bends back so that the top stays the top
_ENVELOPE = 0.22  # cosines over the bands, as a share of these, that make up the formants
_CURVE = 5  # cosines that make up the curve of a room


@dataclass(frozen=True)
class Draws:
    """What happens to each row.

    Attributes:
        formants: (B,) which of the warps the envelope gets.
        harmonics: (B,) which of them the rest gets.
        curve: (B, 5) weights of slow cosines over the bands.
    """

    formants: Tensor
    harmonics: Tensor
    curve: Tensor

    def __getitem__(self, rows: slice) -> Draws:
        return Draws(self.formants[rows], self.harmonics[rows], self.curve[rows])


class Perturbation(nn.Module):
    """Makes perturbed log-mel.

    Args:
        bands: of the log-mel.
        warp: greatest factor that frequencies are moved by, up or down; 1 moves none.
        colour: deviation of each of the curve's cosines, in standard deviations of a band.
    """

    banks: Tensor
    cosines: Tensor

    def __init__(self, bands: int, warp: float, colour: float) -> None:
        super().__init__()
        self.warp, self.colour = warp, colour
        factors = warp ** torch.linspace(-1, 1, _STEPS)
        banks = torch.stack([warped_filterbank(bands, float(factor)) for factor in factors])
        places = (torch.arange(bands) + 0.5) * torch.pi / bands
        self.register_buffer("banks", banks, persistent=False)
        self.register_buffer("cosines", torch.cos(places[:, None] * torch.arange(bands)), persistent=False)

    def draw(self, rows: int, rng: torch.Generator) -> Draws:
        """For so many rows, on the CPU."""
        pair = torch.randint(_STEPS, (2, rows), generator=rng)
        return Draws(pair[0], pair[1], torch.randn(rows, _CURVE, generator=rng) * self.colour)

    @torch.no_grad()
    def forward(self, features: LogMel, power: Tensor, draws: Draws) -> Tensor:
        """Normalised log-mel (B, 4T, bands) of power spectra (B, 4T, 257), perturbed."""
        if self.warp == 1:
            made = features.normalised(power)
        else:
            slow = self.cosines[:, : max(1, int(self.cosines.shape[0] * _ENVELOPE))]
            smooth = slow @ torch.linalg.pinv(slow)
            moved, other = (
                features.normalised(power, self.banks[which.to(power.device)])
                for which in (draws.formants, draws.harmonics)
            )
            made = other + (moved - other) @ smooth
        return made + (draws.curve.to(made) @ self.cosines[:, 1 : _CURVE + 1].T)[:, None]


def warped_filterbank(bands: int, factor: float) -> Tensor:
    """Mel bands (257, bands) to which what is at f sounds as if it were at f * factor."""
    plain = mel_filterbank(bands)
    top = plain.shape[0] - 1
    knee = _KNEE * top / max(factor, 1.0)
    bins = torch.arange(top + 1, dtype=torch.float64)
    bent = factor * knee + (top - factor * knee) / (top - knee) * (bins - knee)
    places = torch.where(bins <= knee, factor * bins, bent).clamp(0, top)
    below = places.floor().long()
    share = (places - below)[:, None].float()
    return plain[below] * (1 - share) + plain[(below + 1).clamp(max=top)] * share
