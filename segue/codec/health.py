"""How well each codebook does its work: how many codes occur, how evenly, and what the layer takes off the residual.

wave (N,) or (B, N) -> latent (B, T, L) -> codes (B, Q, T) -> one `LayerHealth` a layer. Counts and energies are
summed wave by wave, so memory grows with the longest wave and not with their number.

Source: the residual that each layer is there to lessen is SoundStream's (arXiv 2107.03312, III.C); the entropy of the
codes, of which perplexity is the exponential, is what DAC calls bitrate efficiency (arXiv 2306.06546, experiments).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from segue.codec.quantizer import CodebookLayer
from segue.codec.soundstream import SoundStream
from segue.errors import SegueError
from segue.waves import check_wave


@dataclass(frozen=True)
class LayerHealth:
    """What one codebook layer did on some sound.

    Attributes:
        layer: 1 for the first.
        use: share of the layer's codes that occurred, in (0, 1]; few frames can't use all codes.
        perplexity: 2 to the power of the codes' entropy in bits, from 1 (dead) to codebook_size (all equally frequent).
        gain_db: energy of the residual before the layer over that after it, in dB; below 0 it leaves more than it
            found. The energy is that of the latent as it is, its mean included. A codec whose training never compares
            the latent with the layers' sum can decode well at gains near 0.
        frames: T summed over all waves.
    """

    layer: int
    use: float
    perplexity: float
    gain_db: float
    frames: int


@torch.no_grad()
def codebook_health(codec: SoundStream, waves: Iterable[Tensor]) -> list[LayerHealth]:
    """Measure every codebook layer of a codec on some sound.

    Args:
        codec: in evaluation mode; all its layers are used.
        waves: each (N,) or (B, N) mono float32 at the codec's `sample_rate`; read once, one at a time.

    Returns:
        One value a layer, first to last.

    Raises:
        SegueError: if there is no wave, or one is not a finite float (N,) or (B, N).
    """
    layers: list[CodebookLayer] = list(codec.quantizer.layers)  # type: ignore[arg-type]
    counts = torch.zeros(len(layers), codec.codebook_size, dtype=torch.int64)
    energy = torch.zeros(len(layers) + 1, dtype=torch.float64)
    for wave in waves:
        batch = wave[None] if wave.ndim == 1 else wave
        check_wave(batch, None)
        features = codec.features(batch)
        residual = codec.quantizer.narrow(features)
        codes = codec.quantizer.encode(features, len(layers))
        energy[0] += residual.double().square().sum().cpu()
        for index, layer in enumerate(layers):
            counts[index] += torch.bincount(codes[:, index].flatten(), minlength=codec.codebook_size).cpu()
            residual = residual - layer.embed(codes[:, index])
            energy[index + 1] += residual.double().square().sum().cpu()
    frames = int(counts[0].sum())
    if frames == 0:
        raise SegueError("codebook health: no waves; give at least one")
    level = 10 * energy.clamp(min=torch.finfo(torch.float64).tiny).log10()
    gains = (level[:-1] - level[1:]).tolist()
    return [LayerHealth(i + 1, *_spread(counts[i]), gains[i], frames) for i in range(len(layers))]


def _spread(counts: Tensor) -> tuple[float, float]:
    """Counts (codebook_size,) -> share of codes that occur, and perplexity."""
    share = counts[counts > 0].double() / counts.sum()
    return share.numel() / counts.numel(), float(torch.exp(-(share * share.log()).sum()))
