"""What the encoder learns from: hide spans of frames, and tell from the rest what was there.

Two questions are asked of the hidden frames. Contrastive: which of the utterance's hidden frames is this, told by
quantised targets that are learnt too (w2v-BERT's lower module). Masked prediction: which discrete id is this, where
ids are the learnt ones (w2v-BERT's upper module) or those of a frozen random projection (BEST-RQ; can't collapse).
`kind` picks: "w2v-bert": contrastive + learnt ids; "best-rq": frozen ids alone; "hybrid": contrastive + frozen ids;
"teacher": the tokens of an earlier tokenizer alone, asked of the frames that are shown as well. "cpc" hides nothing
and asks a recurrent encoder for what comes next (segue.semantic.predictive).

Shapes: log-mel (B, 4T, bands) normalised; hidden (B, T, width); valid, masked (B, T) bool; ids (..., codebooks).
Source: w2v-BERT, arXiv 2108.06209, section 3; wav2vec 2.0, arXiv 2006.11477, section 3; BEST-RQ, arXiv 2202.01855,
section 3; several codebooks as in USM, arXiv 2303.01037, section 2; HuBERT, arXiv 2106.07447 (a teacher's clusters).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segue.config import later
from segue.errors import SegueError
from segue.semantic.conformer import Encoder, EncoderConfig
from segue.semantic.features import STACK, silenced
from segue.semantic.predictive import Predictive, PredictiveBothWays
from segue.semantic.recurrent import RecurrentConfig, RecurrentEncoder


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is hidden and what is asked.

    Attributes:
        kind: which targets; see the head of this file.
        mask_start: chance that a hidden span starts at a frame.
        mask_frames: length of a span, 40 ms each.
        temperature: of the contrastive and the predictive softmax.
        contrastive_width: size of the vectors compared.
        groups: codebooks of the learnt product quantiser.
        entries: entries in each of them.
        diversity_weight: weight of the term that asks for all entries to be used.
        contrastive_weight: weight of the contrastive term.
        projection_width: size that the frozen projection reduces to.
        codebooks: frozen codebooks, each with its own projection.
        codebook_size: entries in each.
        shown_weight: weight of the frames that are not hidden, where a teacher's tokens are asked.
        horizon: frames of 20 ms ahead that "cpc" asks for.
    """

    kind: Literal["w2v-bert", "best-rq", "hybrid", "teacher", "cpc"] = "hybrid"
    mask_start: float = 0.12
    mask_frames: int = 4
    temperature: float = 0.1
    contrastive_width: int = 64
    groups: int = 2
    entries: int = 128
    diversity_weight: float = 0.1
    contrastive_weight: float = 0.5
    projection_width: int = 16
    codebooks: int = 4
    codebook_size: int = 256
    shown_weight: float = later(0.5)
    horizon: int = later(6)

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise SegueError(f"objective.horizon {self.horizon}: at least one frame ahead")
        if not 0 < self.mask_start < 1 or self.mask_frames < 1:
            raise SegueError(f"objective: mask_start {self.mask_start} must be in (0, 1) and mask_frames at least 1")


def span_mask(valid: Tensor, start: float, span: int, rng: torch.Generator) -> Tensor:
    """Hide `span` frames from each start; a row that drew no start gets one, so that every row counts.

    Args:
        valid: (B, T) bool, True on real frames.
        start: chance of a start at each frame.
        span: frames in a span; spans may overlap.
        rng: on the CPU.

    Returns:
        (B, T) bool, True where hidden. Source: wav2vec 2.0, arXiv 2006.11477, section 3.1.
    """
    draws = torch.rand(valid.shape, generator=rng).to(valid.device).masked_fill(~valid, 2.0)
    starts = draws < start
    starts |= ~starts.any(1, keepdim=True) & (draws == draws.min(1, keepdim=True).values)
    hidden = F.max_pool1d(F.pad(starts.float()[:, None], (span - 1, 0)), span, stride=1)[:, 0] > 0
    return hidden & valid


class GumbelQuantizer(nn.Module):
    """Learnt product quantiser: one entry of each group, chosen by Gumbel softmax with a straight-through gradient.

    Source: wav2vec 2.0, arXiv 2006.11477, section 2 and 3.2.
    """

    updates: Tensor

    def __init__(self, width: int, groups: int, entries: int, out: int) -> None:
        super().__init__()
        self.groups, self.entries = groups, entries
        self.logits = nn.Linear(width, groups * entries)
        self.codebook = nn.Parameter(torch.randn(groups, entries, out) / out**0.5)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, features: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Args: features (n, width). Returns: vectors (n, out), ids (n, groups), perplexity of each group (groups,)."""
        logits = self.logits(features).view(-1, self.groups, self.entries)
        soft = logits.softmax(-1)
        usage = soft.mean(0)
        perplexity = torch.exp(-(usage * usage.clamp(min=1e-9).log()).sum(-1))
        if self.training:
            noise = torch.rand(logits.shape, generator=rng).to(logits.device).clamp_(1e-9, 1 - 1e-7)
            heat = max(0.5, 2.0 * 0.999 ** int(self.updates))
            soft = ((logits - torch.log(-torch.log(noise))) / heat).softmax(-1)
            self.updates += 1
        ids = soft.argmax(-1)
        hard = F.one_hot(ids, self.entries).to(soft.dtype) + soft - soft.detach()
        return torch.einsum("ngv,gvd->nd", hard, self.codebook), ids, perplexity


class RandomProjectionQuantizer(nn.Module):
    """Frozen targets: project a token's four mel frames at random, even out, take the nearest of random directions.

    Source: BEST-RQ, arXiv 2202.01855, section 3.1.
    """

    projection: Tensor
    directions: Tensor

    def __init__(self, bands: int, width: int, codebooks: int, entries: int) -> None:
        super().__init__()
        stacked = STACK * bands
        bound = (6 / (stacked + width)) ** 0.5
        self.register_buffer("projection", (torch.rand(codebooks, stacked, width) * 2 - 1) * bound)
        self.register_buffer("directions", F.normalize(torch.randn(codebooks, entries, width), dim=-1))

    @torch.no_grad()
    def forward(self, log_mel: Tensor) -> Tensor:
        """Args: log_mel (n, 4 * bands), normalised. Returns: ids (n, codebooks)."""
        projected = torch.einsum("ns,csw->cnw", log_mel, self.projection)
        return torch.bmm(projected, self.directions.transpose(1, 2)).argmax(-1).T

    def whiten(self, covariance: Tensor) -> None:
        """Even out the projected directions, given the covariance (4 * bands, 4 * bands) of the stacked frames.

        Mel bands rise and fall together: projected as they are, loudness alone picks the id (60 of 512 in use);
        fully whitened, faint noise counts as much as a formant. Half way, deviations become their square roots.
        """
        for projection in self.projection:
            wide = projection.double()
            values, vectors = torch.linalg.eigh(wide.T @ covariance.double().to(wide.device) @ wide)
            projection.copy_(wide @ (vectors * values.clamp(min=1e-6 * float(values[-1])).pow(-0.25)) @ vectors.T)


class Contrastive(nn.Module):
    """Tell a hidden frame's quantised target from those of the utterance's other hidden frames.

    All of them are negatives, where the paper draws 100; those with the very same ids are left out.
    Source: wav2vec 2.0, arXiv 2006.11477, section 3.2; w2v-BERT, arXiv 2108.06209, section 3.2.
    """

    def __init__(self, width: int, config: ObjectiveConfig) -> None:
        super().__init__()
        size = config.contrastive_width
        self.temperature, self.entries = config.temperature, config.entries
        self.diversity_weight = config.diversity_weight
        self.quantizer = GumbelQuantizer(width, config.groups, config.entries, size)
        self.target = nn.Linear(size, size)
        self.context = nn.Linear(width, size)

    def forward(
        self, clean: Tensor, hidden: Tensor, valid: Tensor, masked: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Args: clean, hidden (B, T, width). Returns: loss, ids (hidden frames, groups), metrics."""
        vectors, ids, perplexity = self.quantizer(clean[valid], rng)
        targets = hidden.new_zeros(*masked.shape, vectors.shape[-1])
        targets[valid] = F.normalize(self.target(vectors), dim=-1)
        joint = torch.full(masked.shape, -1, device=ids.device)
        joint[valid] = (ids * self.entries ** torch.arange(ids.shape[-1], device=ids.device)).sum(-1)

        context = F.normalize(self.context(hidden), dim=-1)
        scores = torch.bmm(context, targets.transpose(1, 2)) / self.temperature
        own = torch.eye(masked.shape[1], dtype=torch.bool, device=masked.device)
        same = (joint[:, :, None] == joint[:, None, :]) & ~own
        scores = scores.masked_fill(same | ~masked[:, None, :], float("-inf"))[masked]
        answers = torch.arange(masked.shape[1], device=masked.device).expand_as(masked)[masked]
        contrastive = F.cross_entropy(scores, answers)
        diversity = 1 - (perplexity / self.entries).mean()
        metrics = {
            "contrastive": contrastive.detach(),
            "contrastive_accuracy": (scores.argmax(-1) == answers).float().mean(),
            "quantizer_perplexity": perplexity.detach().mean(),
        }
        chosen = torch.zeros(*masked.shape, ids.shape[-1], dtype=ids.dtype, device=ids.device)
        chosen[valid] = ids
        return contrastive + self.diversity_weight * diversity, chosen[masked], metrics


class MaskedPrediction(nn.Module):
    """Name the ids of hidden frames, one softmax for each codebook."""

    def __init__(self, width: int, codebooks: int, entries: int) -> None:
        super().__init__()
        self.codebooks, self.entries = codebooks, entries
        self.head = nn.Linear(width, codebooks * entries)

    def forward(self, hidden: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Args: hidden (n, width) and ids (n, codebooks) of hidden frames. Returns: loss, metrics."""
        logits = self.head(hidden).view(-1, self.codebooks, self.entries)
        loss = F.cross_entropy(logits.flatten(0, 1), ids.flatten())
        usage = F.one_hot(ids, self.entries).float().mean(0)
        entropy = -(usage * usage.clamp(min=1e-9).log()).sum(-1)
        metrics = {
            "masked": loss.detach(),
            "masked_accuracy": (logits.argmax(-1) == ids).float().mean(),
            "target_perplexity": entropy.exp().mean(),
        }
        return loss, metrics


class Objective(nn.Module):
    """Mask, encode, ask. One interface for all kinds.

    Args:
        encoder: sizes of what learns.
        config: what is hidden and what is asked.
        teacher_size: tokens of the teacher; None where there is none.

    Raises:
        SegueError: if the kind asks for a teacher and there is none, or the other way round; if the encoder is
            recurrent and the kind not cpc, or the other way round.
    """

    def __init__(
        self, encoder: EncoderConfig | RecurrentConfig, config: ObjectiveConfig, teacher_size: int | None = None
    ) -> None:
        super().__init__()
        if (config.kind == "teacher") != (teacher_size is not None):
            raise SegueError(f"objective.kind {config.kind}: a teacher's tokens are for kind teacher, and for it alone")
        if (config.kind == "cpc") != isinstance(encoder, RecurrentConfig):
            raise SegueError(f"objective.kind {config.kind}: cpc is for a recurrent encoder, and that for cpc alone")
        self.config = config
        self.predictive: Predictive | PredictiveBothWays | None = None
        self.frozen: RandomProjectionQuantizer | None = None
        if isinstance(encoder, RecurrentConfig):
            questions = PredictiveBothWays if encoder.both_ways else Predictive
            self.predictive = questions(encoder.width, config.horizon, config.temperature)
            return
        self.contrastive_depth = encoder.contrastive_depth
        self.mask_vector = nn.Parameter(torch.randn(encoder.width) * 0.1)
        learnt, contrasts = config.kind == "w2v-bert", config.kind in ("w2v-bert", "hybrid")
        self.contrastive = Contrastive(encoder.width, config) if contrasts else None
        if not learnt and teacher_size is None:
            self.frozen = RandomProjectionQuantizer(
                encoder.mel_bands, config.projection_width, config.codebooks, config.codebook_size
            )
        codebooks, entries = (config.groups, config.entries) if learnt else (config.codebooks, config.codebook_size)
        if teacher_size is not None:
            codebooks, entries = 1, teacher_size
        self.prediction = MaskedPrediction(encoder.width, codebooks, entries)

    def forward(
        self,
        encoder: Encoder | RecurrentEncoder,
        log_mel: Tensor,
        valid: Tensor,
        rng: torch.Generator,
        tokens: Tensor | None = None,
        recorded: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch.

        Args:
            encoder: what learns.
            log_mel: (B, 4T, bands), normalised: what the encoder hears.
            valid: (B, T) bool, True on real frames.
            rng: draws spans and Gumbel noise, on the CPU.
            tokens: (B, T) of the teacher, where there is one.
            recorded: (B, 4T, bands), what predictions are compared with, if that isn't what is heard.

        Returns:
            The loss, and metrics as scalar tensors: losses, accuracies on hidden frames, codebook perplexities.
        """
        config = self.config
        if self.predictive is not None:
            heard = encoder.subsampling(silenced(log_mel, valid))
            targets = heard if recorded is None else encoder.subsampling(silenced(recorded, valid))
            known = valid.repeat_interleave(targets.shape[1] // valid.shape[1], dim=1)
            return self.predictive(targets, encoder(heard, valid)[-1], known)
        masked = span_mask(valid, config.mask_start, config.mask_frames, rng)
        clean = encoder.subsampling(log_mel)
        corrupted = torch.where(masked[..., None], self.mask_vector, clean)
        outputs = encoder(corrupted, valid)
        if tokens is not None:
            return self._as_taught(outputs[-1], tokens, valid, masked)
        loss, metrics, ids = log_mel.new_zeros(()), {}, None
        if self.contrastive is not None:
            lower = outputs[self.contrastive_depth - 1]
            term, ids, metrics = self.contrastive(clean, lower, valid, masked, rng)
            loss = config.contrastive_weight * term
        if self.frozen is not None:
            ids = self.frozen(log_mel.reshape(*masked.shape, -1)[masked])
        assert ids is not None
        term, predicted = self.prediction(outputs[-1][masked], ids)
        return loss + term, metrics | predicted

    def _as_taught(
        self, hidden: Tensor, tokens: Tensor, valid: Tensor, masked: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The teacher's tokens, asked of hidden frames and, with less weight, of those that are shown."""
        loss, metrics = self.prediction(hidden[masked], tokens[masked][:, None])
        shown = valid & ~masked
        if self.config.shown_weight > 0 and bool(shown.any()):
            term, _ = self.prediction(hidden[shown], tokens[shown][:, None])
            loss, metrics = loss + self.config.shown_weight * term, metrics | {"shown": term.detach()}
        return loss, metrics
