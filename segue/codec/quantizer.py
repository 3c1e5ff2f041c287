"""Residual vector quantizer: what one codebook leaves over, the next one codes.

features (B, T, D) -> latent (B, T, L) -> codes (B, Q, T); projected (B, T, W), what a layer compares with its codes.

Two kinds of codes. Plain: the code nearest to the residual as it is, W = L. Factorised: each layer projects the
residual down to a few dimensions, puts it on the unit sphere and takes the nearest of its unit codes. The latent is
the features themselves, or what one linear map for all layers makes of them (and another one makes features of the
codes' sum). Codebooks start from k-means, follow their data by a moving average and revive codes that die; gradients
pass straight through. Dropping the last layers of some rows while training makes the first q layers decode by
themselves, so that one model serves every bitrate. Codes are taken layer by layer, or searched for together.

Source: SoundStream (arXiv 2107.03312, III.C): plain codes, their k-means start, dead codes; DAC (arXiv 2306.06546,
3.2): factorised codes chosen by their cosine, and dropout for half of each batch. M-best search: LeBlanc et al., IEEE
Trans. Speech and Audio Processing 1 (4), 1993.
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
_VECTORS_AT_ONCE = 8000  # of a search, so that its memory grows neither with the sound nor with the candidates


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
        return self.likeness(projected).argmax(dim=-1)

    def _placed(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.factorised else vectors

    def likeness(self, projected: Tensor) -> Tensor:
        """(..., W) -> (..., codebook_size), the greater the nearer."""
        return self._likeness(projected, self.codebook)

    def _likeness(self, vectors: Tensor, codes: Tensor) -> Tensor:
        product = vectors @ codes.T
        return product if self.factorised else product - codes.square().sum(dim=-1) / 2

    def embed(self, codes: Tensor) -> Tensor:
        """(...) -> (..., L), the layer's part of the latent."""
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
            chosen = self._likeness(vectors, centres).argmax(dim=-1)
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

    def encode(self, features: Tensor, num_codebooks: int, candidates: int = 1) -> Tensor:
        """Features (B, T, D) -> codes (B, q, T) of the first `num_codebooks` layers, as `encode_latent` takes them."""
        return self.encode_latent(self.narrow(features), num_codebooks, candidates)

    def encode_latent(self, latent: Tensor, num_codebooks: int, candidates: int = 1) -> Tensor:
        """Latent (B, T, L) -> codes (B, q, T) of the first `num_codebooks` layers.

        Args:
            latent: (B, T, L), what `narrow` makes of features.
            num_codebooks: q.
            candidates: 1: each layer takes the code nearest to what is left. More: so many sequences of codes are
                carried from layer to layer, and the one whose sum ends nearest to the latent is taken.
        """
        residual, codes = latent, []
        for module in self.layers[:num_codebooks]:
            layer: CodebookLayer = module  # type: ignore[assignment]
            chosen = layer.nearest(layer.project(residual))
            residual = residual - layer.embed(chosen)
            codes.append(chosen)
        nearest = torch.stack(codes, dim=1)
        if candidates == 1:
            return nearest
        found, left = self._searched(latent.flatten(0, 1), num_codebooks, candidates)
        nearer = left < residual.flatten(0, 1).square().sum(dim=-1)  # where the nearest ones were dropped too early
        searched, better = found.unflatten(0, latent.shape[:2]).mT, nearer.unflatten(0, latent.shape[:2])
        return torch.where(better[:, None], searched, nearest)

    def _searched(self, latent: Tensor, count: int, candidates: int) -> tuple[Tensor, Tensor]:
        """M-best search, each frame by itself.

        Args:
            latent: (n, L), of n frames.
            count: q, layers.
            candidates: m, at most, that go on from each layer.

        Returns:
            codes (n, q), and (n,) the energy that they leave.
        """
        found = [
            self._search(frames, count, candidates)
            for frames in latent.split(max(1, _VECTORS_AT_ONCE // candidates**2))
        ]
        return torch.cat([codes for codes, _ in found]), torch.cat([left for _, left in found])

    def _search(self, latent: Tensor, count: int, candidates: int) -> tuple[Tensor, Tensor]:
        left = latent[:, None]  # (n, m, L)
        codes = torch.zeros(len(latent), 1, 0, dtype=torch.int64, device=latent.device)
        for module in self.layers[:count]:
            layer: CodebookLayer = module  # type: ignore[assignment]
            choices = layer.likeness(layer.project(left)).topk(min(candidates, len(layer.codebook))).indices
            after = (left[:, :, None] - layer.embed(choices)).flatten(1, 2)  # (n, m * choices, L)
            energy = after.square().sum(dim=-1)
            kept = energy.topk(min(candidates, energy.shape[1]), largest=False).indices[..., None]  # nearest first
            before = codes.gather(1, (kept // choices.shape[2]).expand(-1, -1, codes.shape[2]))
            codes = torch.cat([before, choices.flatten(1)[..., None].gather(1, kept)], dim=-1)
            left = after.gather(1, kept.expand(-1, -1, after.shape[2]))
        return codes[:, 0], left[:, 0].square().sum(dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, q, T) of the first q layers -> features (B, T, D)."""
        parts = [layer.embed(codes[:, index]) for index, layer in zip(range(codes.shape[1]), self.layers, strict=False)]  # type: ignore[operator]
        return self.widen(torch.stack(parts).sum(dim=0))
