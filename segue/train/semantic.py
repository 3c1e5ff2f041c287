"""Training of the semantic tokenizer: self-supervised steps on crops of sound, then k-means on one layer.

    training = SemanticTraining(config, seed=0)
    training.prepare(batches)                 # band statistics
    training.step(batch, rng, learning_rate)  # again and again
    training.finish(batches, 200, seed=0)     # k-means on what will be shipped
    part = training.export(card)

Shapes: a batch is wave (B, N) mono float32 at 16 kHz and lengths (B,) int64 in samples.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from segue.artifact import Part, full, half
from segue.config import to_dict
from segue.semantic.conformer import Encoder, EncoderConfig
from segue.semantic.features import LogMel, Moments, frame_mask
from segue.semantic.kmeans import Clusters, fit
from segue.semantic.objective import Objective, ObjectiveConfig
from segue.semantic.tokenizer import PART_KIND, SemanticTokenizer, TokenizerConfig

Batch = tuple[Tensor, Tensor]
_STATISTICS_BATCHES = 16


@dataclass(frozen=True)
class SemanticConfig:
    """Everything about a semantic tokenizer that is chosen before training.

    Attributes:
        tokenizer: encoder sizes, layer, vocabulary.
        objective: what the encoder learns from.
        gain_db: each crop is made louder or softer by up to so many decibels.
        noise_db: white noise is added this far below full scale; -inf is written as -200.
    """

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    gain_db: float = 6.0
    noise_db: float = -200.0


class _Learner(nn.Module):
    """Features, encoder and objective: all that steps change."""

    def __init__(self, config: SemanticConfig) -> None:
        super().__init__()
        self.features = LogMel(config.tokenizer.encoder.mel_bands)
        self.encoder = Encoder(config.tokenizer.encoder)
        self.objective = Objective(config.tokenizer.encoder, config.objective)

    def forward(self, wave: Tensor, lengths: Tensor, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        log_mel = self.features(wave, lengths)
        return self.objective(self.encoder, log_mel, frame_mask(lengths, log_mel.shape[1] // 4), rng)


class SemanticTraining:
    """The training seam for a semantic tokenizer."""

    def __init__(
        self,
        config: SemanticConfig,
        seed: int = 0,
        weight_decay: float = 0.01,
        gradient_clip: float = 1.0,
        ema_decay: float | None = 0.999,
        device: str = "cpu",
    ) -> None:
        """Args: seed: of the first weights and the frozen targets; ema_decay: None keeps no average."""
        self.config = config
        self.gradient_clip, self.ema_decay, self.device = gradient_clip, ema_decay, torch.device(device)
        with _seeded(torch.Generator().manual_seed(seed)):
            self.learner = _Learner(config).to(self.device)
        self.average = copy.deepcopy(self.learner).requires_grad_(False).eval() if ema_decay else None
        self.steps = 0
        self.clusters: Clusters | None = None
        decayed = [p for p in self.learner.parameters() if p.ndim > 1]
        plain = [p for p in self.learner.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), eps=1e-8)

    def prepare(self, batches: Callable[[int], Batch]) -> None:
        """Estimate the mean and deviation of each mel band, once, from the first batches."""
        moments = Moments()
        for k in range(_STATISTICS_BATCHES):
            wave, lengths = self._placed(batches(k))
            log_mel = self.learner.features.raw(wave, lengths)
            valid = frame_mask(lengths, log_mel.shape[1] // 4).repeat_interleave(4, 1)
            moments.add(log_mel[valid].cpu())
        for learner in filter(None, (self.learner, self.average)):
            learner.features.set_statistics(*moments.mean_and_std())

    def step(self, batch: Batch, rng: torch.Generator, learning_rate: float) -> dict[str, float]:
        """One optimiser step; all randomness is drawn from `rng` (on the CPU)."""
        wave, lengths = self._placed(batch)
        wave = self._augmented(wave, rng)
        self.learner.train()
        with _seeded(rng):
            loss, metrics = self.learner(wave, lengths, rng)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.learner.parameters(), self.gradient_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.steps += 1
        self._update_average()
        return _floats(loss, metrics) | {"gradient_norm": float(norm)}

    @torch.no_grad()
    def validate(self, batch: Batch, rng: torch.Generator) -> dict[str, float]:
        """The same questions, asked of the averaged weights."""
        wave, lengths = self._placed(batch)
        return _floats(*self._shipped().eval()(wave, lengths, rng))

    def state_dict(self) -> dict[str, Any]:
        """All that a step changes."""
        return {
            "steps": self.steps,
            "learner": dict(self.learner.state_dict()),
            "average": dict(self.average.state_dict()) if self.average is not None else {},
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.steps = int(state["steps"])
        self.learner.load_state_dict(state["learner"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    def finish(
        self, batches: Callable[[int], Batch], num_batches: int, seed: int, layer: int | None = None
    ) -> dict[str, float]:
        """Cluster the chosen layer of the weights as they will be shipped: averaged and in half precision.

        Args:
            batches: batch k of audio, the same each time it is asked for.
            num_batches: how many to use; some 100 frames for each cluster are plenty.
            seed: of the k-means.
            layer: another layer than the config's, as when layers are compared.

        Returns:
            `frames`, `perplexity` of the tokens and the number of `empty` clusters.

        Raises:
            SegueError: if there is less audio than clusters.
        """
        if layer is not None:
            values = {**vars(self.config.tokenizer), "layer": layer}
            self.config = SemanticConfig(**{**vars(self.config), "tokenizer": TokenizerConfig(**values)})
        tokenizer = self.config.tokenizer
        rounded = copy.deepcopy(self._shipped()).eval()
        rounded.load_state_dict(full(half(rounded.state_dict())))

        @torch.no_grad()
        def rows(k: int) -> Tensor:
            wave, lengths = self._placed(batches(k))
            subsampled = rounded.encoder.subsampling(rounded.features(wave, lengths))
            valid = frame_mask(lengths, subsampled.shape[1])
            return rounded.encoder(subsampled, valid, tokenizer.layer + 1)[-1][valid].cpu()

        self.clusters = fit(rows, num_batches, tokenizer.vocab_size, seed)
        return {
            "frames": float(self.clusters.counts.sum()),
            "perplexity": self.clusters.perplexity,
            "empty": float((self.clusters.counts == 0).sum()),
        }

    def export(self, card: dict[str, Any]) -> Part:
        """The tokenizer as an artifact: blocks up to the chosen layer, statistics and centroids."""
        assert self.clusters is not None, "finish() comes before export()"
        shipped, config = self._shipped(), self.config.tokenizer
        tensors = {f"features.{name}": value for name, value in shipped.features.state_dict().items()}
        for name, value in shipped.encoder.state_dict().items():
            if not name.startswith("blocks.") or int(name.split(".")[1]) <= config.layer:
                tensors[f"encoder.{name}"] = value
        tensors |= {"mean": self.clusters.mean, "std": self.clusters.std, "centroids": self.clusters.centroids}
        return Part(PART_KIND, to_dict(config), half(tensors), card=card)

    def tokenizer(self) -> SemanticTokenizer:
        """The finished tokenizer, exactly as it comes back from disk."""
        return SemanticTokenizer.from_part(self.export({}))

    def _shipped(self) -> _Learner:
        return self.learner if self.average is None else self.average

    def _placed(self, batch: Batch) -> Batch:
        wave, lengths = batch
        return wave.to(self.device), lengths.to(self.device)

    def _augmented(self, wave: Tensor, rng: torch.Generator) -> Tensor:
        if self.config.gain_db > 0:
            draws = torch.rand(wave.shape[0], 1, generator=rng).to(wave.device) * 2 - 1
            wave = wave * 10 ** (draws * self.config.gain_db / 20)
        if self.config.noise_db > -200:
            noise = torch.randn(wave.shape, generator=rng).to(wave.device)
            wave = wave + noise * 10 ** (self.config.noise_db / 20)
        return wave

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average is None or self.ema_decay is None:
            return
        decay = min(self.ema_decay, (1 + self.steps) / (10 + self.steps))
        own = dict(self.learner.named_parameters())
        torch._foreach_lerp_(
            list(self.average.parameters()), [own[name] for name, _ in self.average.named_parameters()], 1 - decay
        )
        for mine, theirs in zip(self.average.buffers(), self.learner.buffers(), strict=True):
            mine.copy_(theirs)


@contextmanager
def _seeded(rng: torch.Generator) -> Iterator[None]:
    """Torch's own draws (first weights, dropout) come from `rng` within, and leave no trace outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=rng)))
        yield


def _floats(loss: Tensor, metrics: dict[str, Tensor]) -> dict[str, float]:
    return {"loss": float(loss.detach())} | {name: float(value) for name, value in metrics.items()}
