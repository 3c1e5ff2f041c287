"""Residual vector quantizer: what one codebook leaves over, the next one codes.

features (B, T, D) -> latent (B, T, L) -> codes (B, Q, T); projected (B, T, W), what a layer compares with its codes.

Two kinds of codes. Plain: the code nearest to the residual as it is, W = L. Factorised: each layer projects the
residual down to a few dimensions, puts it on the unit sphere and takes the nearest of its unit codes. The latent is
the features themselves, or what one linear map for all layers makes of them (and another one makes features of the
codes' sum). Codebooks start from k-means, follow their data by a moving average and revive codes that die; gradients
pass straight through. Dropping the last layers of some rows while training makes the first q layers decode by
themselves, so that one model serves every bitrate.

Source: SoundStream (arXiv 2107.03312, III.C): plain codes, their k-means start, dead codes; DAC (arXiv 2306.06546,
3.2): factorised codes chosen by their cosine, and dropout for half of each batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DECAY = 0.99
REVIVE_BELOW = 0.1
"""A code is dead once its share of the moving average is below this part of an even share."""


@dataclass(frozen=True)
class Quantized:
    """What the quantizer gives while training.

    Attributes:
        features: (B, T, D) sum of the layers in use.
        codes: (B, Q, T) indices, of every layer.
        commitment: scalar, mean squared distance of the projections to their codes; of plain ones, as a share of the
            latent's energy.
        left: scalar, energy of the latent's residual as a share of the latent's, mean over the layers in use.
    """

    features: Tensor
    codes: Tensor
    commitment: Tensor
    left: Tensor


class CodebookLayer(nn.Module):
    """One codebook, with its projections where it is factorised.

    Args:
        width: L of the latent.
        code_width: W, dimensions of a code; None for plain codes of width L.
        codebook_size: number of codes.
    """

    codebook: Tensor
    usage: Tensor
    total: Tensor
    together: Callable[[Tensor], Tensor] | None = None
    """Brings rows together from all processes of a training."""

    def __init__(self, width: int, code_width: int | None, codebook_size: int) -> None:
        super().__init__()
        self.factorised = code_width is not None
        self.project_in = nn.Identity() if code_width is None else nn.Linear(width, code_width)
        self.project_out = nn.Identity() if code_width is None else nn.Linear(code_width, width)
        codes = self._placed(torch.randn(codebook_size, code_width or width))
        self.register_buffer("codebook", codes)
        self.register_buffer("usage", torch.ones(codebook_size))
        self.register_buffer("total", codes.clone())

    def project(self, residual: Tensor) -> Tensor:
        """(B, T, L) -> (B, T, W), on the unit sphere where factorised."""
        return self._placed(self.project_in(residual))

    def nearest(self, projected: Tensor) -> Tensor:
        """(..., W) -> (...) index of the nearest code."""
        return self._nearest(projected, self.codebook)

    def _placed(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.factorised else vectors

    def _nearest(self, vectors: Tensor, codes: Tensor) -> Tensor:
        likeness = vectors @ codes.T
        return (likeness if self.factorised else likeness - codes.square().sum(dim=-1) / 2).argmax(dim=-1)

    def embed(self, codes: Tensor) -> Tensor:
        """(B, T) -> (B, T, L), the layer's part of the latent."""
        return self.project_out(F.embedding(codes, self.codebook))

    @torch.no_grad()
    def follow(self, projected: Tensor, codes: Tensor, rng: torch.Generator) -> None:
        """Move the codebook towards the vectors (M, W) that chose it; revive dead codes from among them."""
        if self.together is not None:
            projected, codes = self.together(projected), self.together(codes)
        size = self.codebook.shape[0]
        counts = torch.bincount(codes, minlength=size).to(projected.dtype)
        sums = torch.zeros_like(self.codebook).index_add_(0, codes, projected)
        self.usage.mul_(DECAY).add_(counts, alpha=1 - DECAY)
        self.total.mul_(DECAY).add_(sums, alpha=1 - DECAY)
        even_share = self.usage.mean()  # of the average's own size, which lags behind another size of batch
        dead = self.usage < REVIVE_BELOW * even_share
        picks = torch.randint(projected.shape[0], (size,), generator=rng).to(projected.device)
        self.usage.copy_(torch.where(dead, even_share, self.usage))
        self.total.copy_(torch.where(dead[:, None], projected[picks] * even_share, self.total))
        self.codebook.copy_(self._placed(self.total / self.usage.clamp(min=1e-7)[:, None]))

    @torch.no_grad()
    def start(self, vectors: Tensor, rng: torch.Generator, iterations: int = 10) -> None:
        """K-means on vectors (M, W), spherical where factorised, as SoundStream starts its codebooks."""
        size = self.codebook.shape[0]
        picks = torch.randint(vectors.shape[0], (size,), generator=rng)
        if vectors.shape[0] >= size:
            picks = torch.randperm(vectors.shape[0], generator=rng)[:size]
        centres = vectors[picks.to(vectors.device)]
        for _ in range(iterations):
            chosen = self._nearest(vectors, centres)
            sums = torch.zeros_like(centres).index_add_(0, chosen, vectors)
            counts = torch.bincount(chosen, minlength=size)[:, None]
            centres = self._placed(torch.where(counts == 0, centres, sums / counts.clamp(min=1)))
        self.codebook.copy_(centres)
        self.total.copy_(centres * vectors.shape[0] / size)
        self.usage.fill_(vectors.shape[0] / size)


class ResidualQuantizer(nn.Module):
    """Q codebook layers in a row.

    Args:
        width: D of the features.
        code_width: W; None for plain codes of the latent's width.
        num_codebooks: Q.
        codebook_size: codes a layer.
        latent_width: L, to which the features are projected before the first layer; None codes the features themselves.
    """

    def __init__(
        self,
        width: int,
        code_width: int | None,
        num_codebooks: int,
        codebook_size: int,
        latent_width: int | None = None,
    ) -> None:
        super().__init__()
        self.narrow: nn.Module = nn.Identity() if latent_width is None else nn.Linear(width, latent_width)
        self.widen: nn.Module = nn.Identity() if latent_width is None else nn.Linear(latent_width, width)
        self.layers: nn.ModuleList = nn.ModuleList(
            CodebookLayer(latent_width or width, code_width, codebook_size) for _ in range(num_codebooks)
        )

    def forward(self, features: Tensor, layers_in_use: Tensor, rng: torch.Generator, warm: bool = False) -> Quantized:
        """Quantize while training: straight-through gradients, codebooks follow.

        Args:
            features: (B, T, D).
            layers_in_use: (B,) how many layers each row's result is the sum of.
            rng: chooses replacements of dead codes.
            warm: leave out the rounding to codes and pass on the projections themselves, so that encoder, decoder
                and projections have something to say before the codebooks start.
        """
        latent = self.narrow(features)
        residual, result = latent, torch.zeros_like(latent)
        energy = latent.square().sum(dim=-1).mean().clamp(min=1e-9)
        codes, commitment, left = [], features.new_zeros(()), features.new_zeros(())
        for index, module in enumerate(self.layers):
            layer: CodebookLayer = module  # type: ignore[assignment]
            projected = layer.project(residual)
            chosen = layer.nearest(projected.detach())
            code = F.embedding(chosen, layer.codebook)
            in_use = (layers_in_use > index).to(features.dtype)[:, None, None]
            distance = (projected - code.detach()).square().sum(dim=-1, keepdim=True)
            commitment = commitment + (distance * in_use).mean() / (1 if layer.factorised else energy)
            part = layer.project_out(projected if warm else projected + (code - projected).detach())
            residual = residual - part
            result = result + part * in_use
            left = left + (residual.square().sum(dim=-1, keepdim=True) * in_use).mean() / energy
            codes.append(chosen)
            if self.training and not warm:
                layer.follow(projected.detach().flatten(0, 1), chosen.flatten(), rng)
        count = len(self.layers)
        return Quantized(self.widen(result), torch.stack(codes, dim=1), commitment / count, left / count)

    @torch.no_grad()
    def start(self, features: Tensor, rng: torch.Generator) -> None:
        """Start every codebook by k-means on what reaches it from features (M, D)."""
        residual = self.narrow(features)
        for module in self.layers:
            layer: CodebookLayer = module  # type: ignore[assignment]
            projected = layer.project(residual)
            layer.start(projected, rng)
            residual = residual - layer.embed(layer.nearest(projected))

    def encode(self, features: Tensor, num_codebooks: int) -> Tensor:
        """Features (B, T, D) -> codes (B, q, T) of the first `num_codebooks` layers."""
        residual, codes = self.narrow(features), []
        for module in self.layers[:num_codebooks]:
            layer: CodebookLayer = module  # type: ignore[assignment]
            chosen = layer.nearest(layer.project(residual))
            residual = residual - layer.embed(chosen)
            codes.append(chosen)
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, q, T) of the first q layers -> features (B, T, D)."""
        parts = [layer.embed(codes[:, index]) for index, layer in zip(range(codes.shape[1]), self.layers, strict=False)]  # type: ignore[operator]
        return self.widen(torch.stack(parts).sum(dim=0))
