"""Training of the semantic tokenizer: self-supervised steps on crops of sound, then k-means on one layer.

    training = SemanticTraining(config, seed=0)           # on one CPU
    training.prepare(batches)                 # band statistics
    training.step(batch, rng, learning_rate)  # again and again
    training.finish(batches, 200, seed=0)     # k-means on what will be shipped
    part = training.export(card)

With a teacher, an earlier tokenizer, the encoder goes on from the teacher's weights, if it is of the same sizes, and
learns to name the teacher's tokens of the sound as it is, while it hears the sound as another voice would have made it
(segue.semantic.perturb). So it does where it predicts what comes next: that is asked for as it was recorded.

Shapes: a batch is wave (b, N) mono float32 at 16 kHz and lengths (b,) int64 in samples: this process's rows of B.

Several processes encode a share of the rows each; then every one asks the objective's questions of all rows. So
losses are those of the whole batch (means over all hidden frames, use of the learnt ids), and draws are the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from segue.artifact import Part, full, half
from segue.config import later, to_disk
from segue.errors import SegueError
from segue.semantic.conformer import Encoder
from segue.semantic.features import SAMPLE_RATE, STACK, LogMel, Moments, frame_mask
from segue.semantic.fitting import Hidden, encoded, fit_tokens
from segue.semantic.kmeans import Clusters
from segue.semantic.objective import Objective, ObjectiveConfig
from segue.semantic.perturb import Draws, Perturbation
from segue.semantic.recurrent import RecurrentEncoder
from segue.semantic.tokenizer import PART_KIND, SemanticTokenizer, TokenizerConfig, encoder_of
from segue.train.accumulate import in_parts
from segue.train.fabric import World, alone
from segue.train.optimiser import MovingAverage, OptimiserName, check_kept, optimisers, set_rate
from segue.train.seeded import seeded

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
        warp: with a teacher and in "cpc", formants and pitch are moved up or down by at most this factor; 1 for music.
        colour: and this is the deviation of the random curve over the mel bands, in theirs.
    """

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    gain_db: float = 6.0
    noise_db: float = -200.0
    warp: float = later(1.0)
    colour: float = later(0.0)

    def __post_init__(self) -> None:
        if not 1 <= self.warp <= 2 or self.colour < 0:
            raise SegueError(f"semantic: warp {self.warp} must be from 1 to 2, colour {self.colour} at least 0")


class _Learner(nn.Module):
    """Features, encoder and objective: all that steps change."""

    def __init__(self, config: SemanticConfig, accumulate: int, world: World, teacher_size: int | None) -> None:
        super().__init__()
        self.accumulate, self.world = accumulate, world
        sizes = config.tokenizer.sizes
        self.features = LogMel(sizes.mel_bands)
        self.encoder = encoder_of(sizes)
        self.objective = Objective(sizes, config.objective, teacher_size)
        as_it_is = config.objective.kind not in ("teacher", "cpc")
        self.perturbation = None if as_it_is else Perturbation(sizes.mel_bands, config.warp, config.colour)

    def forward(
        self,
        wave: Tensor,
        lengths: Tensor,
        rng: torch.Generator,
        tokens: Tensor | None = None,
        draws: Draws | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        shared = _SharedEncoder(self.encoder, self.accumulate, self.world)
        with torch.autocast(wave.device.type, enabled=False):  # the encoder alone may be in low precision
            power = self.features.power(wave, lengths)
            if draws is None or self.perturbation is None:
                own = self.features.normalised(power)
            else:
                own = self.perturbation(self.features, power, draws)
            log_mel = self.world.gather(own)
            valid = frame_mask(self.world.gather(lengths), log_mel.shape[1] // STACK)
            asked = None if tokens is None else self.world.gather(tokens)
            encoder = shared if shared.needed else self.encoder
            if self.objective.predictive is None:
                return self.objective(encoder, log_mel, valid, rng, asked)
            recorded = None if draws is None else self.world.gather(self.features.normalised(power))
        with self.world.autocast():
            return self.objective(encoder, log_mel, valid, rng, recorded=recorded)


class _SharedEncoder:
    """An encoder as the objective knows it, which takes the own rows alone, in parts, and gives those of all."""

    def __init__(self, encoder: Encoder | RecurrentEncoder, accumulate: int, world: World) -> None:
        self.subsampling = encoder.subsampling
        self._encoder, self._accumulate, self._world = encoder, accumulate, world
        self._asked = encoder.config.asked
        self.needed = accumulate * world.size > 1 or world.hardware.precision != "float32"

    def __call__(self, subsampled: Tensor, valid: Tensor) -> list[Tensor]:
        rows = self._world.rows(subsampled.shape[0], self._accumulate)
        with self._world.autocast():
            parts = in_parts(self._encoder, self._accumulate, subsampled[rows], valid[rows])
        outputs = [torch.cat(output).to(subsampled.dtype) for output in zip(*parts, strict=True)]
        return [self._world.gather(out) if depth in self._asked else out for depth, out in enumerate(outputs)]


class SemanticTraining:
    """The training seam for a semantic tokenizer."""

    unit = "audio_seconds"

    def __init__(
        self,
        config: SemanticConfig,
        seed: int = 0,
        weight_decay: float = 0.01,
        gradient_clip: float = 1.0,
        ema_decay: float = 0.999,
        accumulate: int = 1,
        world: World | None = None,
        teacher: SemanticTokenizer | None = None,
        optimiser: OptimiserName = "adamw",
    ) -> None:
        """Where to train, and how.

        Args:
            config: all that is chosen before.
            seed: of the first weights and the frozen targets.
            weight_decay: AdamW's.
            gradient_clip: greatest norm of the gradient.
            ema_decay: of the average that is shipped; 0 ships the weights themselves.
            accumulate: parts a batch is worked through in.
            world: where to train; None is one process on the CPU.
            teacher: whose tokens are learnt, and whose weights are the first ones where the sizes are the same.
            optimiser: `muon` steps the matrices of the encoder's blocks and of predictions by Muon and all else by
                AdamW; `adamw` everything by AdamW.

        Raises:
            SegueError: if the objective asks for a teacher and there is none, or the other way round.
        """
        config.tokenizer.checked()
        self.config = config
        self.world = world or alone()
        self.gradient_clip, self.device = gradient_clip, self.world.device
        with seeded(torch.Generator().manual_seed(seed)):
            self.learner = _Learner(config, accumulate, self.world, None if teacher is None else teacher.vocab_size)
        self.teacher = teacher if teacher is None else copy.deepcopy(teacher).to(self.device)
        if self.teacher is not None:
            self.learner.features.load_state_dict(self.teacher.features.state_dict())
            if self.teacher.config.sizes == config.tokenizer.sizes:
                self.learner.encoder.load_state_dict(self.teacher.encoder.state_dict(), strict=False)
        self._wrapped = self.world.wrap(self.learner)
        self.average = MovingAverage(self.learner, ema_decay)
        predictive = self.learner.objective.predictive
        inner = [*self.learner.encoder.blocks.parameters(), *(predictive.parameters() if predictive else ())]
        every = self.learner.parameters()
        self.optimisers = optimisers(optimiser, every, inner, weight_decay, (0.9, 0.98), self.world)
        self.axes: Tensor | None = None
        self.clusters: Clusters | None = None

    def prepare(self, batches: Callable[[int], Batch]) -> None:
        """Estimate what is fixed from then on: statistics of the mel bands, and of the frozen targets' input."""
        if self.teacher is not None:
            return
        moments, features, frozen = Moments(), self.learner.features, self.learner.objective.frozen
        for k in range(_STATISTICS_BATCHES):
            moments.add(self._stacked(batches(k), features.raw).reshape(-1, features.mean.shape[0]))
        features.set_statistics(*moments.mean_and_std())
        if frozen is not None:
            products: Tensor | float = 0.0
            for k in range(_STATISTICS_BATCHES):
                rows = self._stacked(batches(k), features).double()
                products = products + rows.T @ rows
            assert isinstance(products, Tensor)
            frozen.whiten(products * STACK / moments.count)
        self.average = MovingAverage(self.learner, self.average.decay)

    def _stacked(self, batch: Batch, features: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The real token frames of a batch as rows of four mel frames: (n, 4 * bands)."""
        wave, lengths = self._placed(batch)
        log_mel = features(wave, lengths)
        stacked = log_mel.reshape(log_mel.shape[0], -1, STACK * log_mel.shape[2])
        return stacked[frame_mask(lengths, stacked.shape[1])].cpu()

    def amount(self, batch: Batch) -> tuple[float, float]:
        """Seconds of sound in a batch, and with padding."""
        return float(batch[1].sum()) / SAMPLE_RATE, batch[0].numel() / SAMPLE_RATE

    def step(self, batch: Batch, rng: torch.Generator, learning_rate: float) -> dict[str, float]:
        """One optimiser step; all randomness is drawn from `rng` (on the CPU)."""
        wave, lengths = self._placed(batch)
        wave = self._augmented(wave, rng)
        tokens, draws = self._taught(wave, lengths), None
        if self.learner.perturbation is not None:
            rows = wave.shape[0] * self.world.size
            draws = self.learner.perturbation.draw(rows, rng)[self.world.rows(rows)]
        self.learner.train()
        with seeded(rng, self.world.rank):
            loss, metrics = self._wrapped(wave, lengths, rng, tokens, draws)
        self.learner.zero_grad(set_to_none=True)
        self.world.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.learner.parameters(), self.gradient_clip)
        for optimiser in self.optimisers:
            set_rate(optimiser, learning_rate)
            optimiser.step()
        self.average.update()
        return self.world.floats({"loss": loss, **metrics, "gradient_norm": norm})

    @torch.no_grad()
    def validate(self, batch: Batch, rng: torch.Generator) -> dict[str, float]:
        """The same questions, asked of the averaged weights."""
        wave, lengths = self._placed(batch)
        given = (wave, lengths, rng, self._taught(wave, lengths))
        loss, metrics = functional_call(self.learner.eval(), self.average.average, given)
        return self.world.floats({"loss": loss, **metrics})

    def state_dict(self) -> dict[str, Any]:
        """All that a step changes."""
        return {
            "learner": dict(self.learner.state_dict()),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            SegueError: if it was trained with another choice of optimisers.
        """
        check_kept(state["optimisers"], self.optimisers)
        self.learner.load_state_dict(state["learner"])
        self.average.load_state_dict(state["average"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)

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
        rounded = copy.deepcopy(self.learner).eval()
        rounded.load_state_dict(full(half(self.average.average)))

        @torch.no_grad()
        def hidden(k: int) -> Hidden:
            return encoded(rounded.features, rounded.encoder, *self._placed(batches(k)), tokenizer)

        self.axes, self.clusters = fit_tokens(hidden, num_batches, tokenizer, seed)
        return {
            "frames": float(self.clusters.counts.sum()),
            "perplexity": self.clusters.perplexity,
            "empty": float((self.clusters.counts == 0).sum()),
        }

    def export(self, card: dict[str, Any]) -> Part:
        """The tokenizer as an artifact: blocks up to the chosen layer, statistics and centroids."""
        assert self.clusters is not None, "finish() comes before export()"
        config = self.config.tokenizer
        tensors = {
            name: value
            for name, value in self.average.average.items()
            if name.startswith(("features.", "encoder.subsampling."))
            or (name.startswith("encoder.blocks.") and int(name.split(".")[2]) <= config.layer)
        }
        tensors |= {} if self.axes is None else {"axes": self.axes}
        tensors |= {"mean": self.clusters.mean, "std": self.clusters.std, "centroids": self.clusters.centroids}
        return Part(PART_KIND, to_disk(config), half(tensors), card=card)

    def tokenizer(self) -> SemanticTokenizer:
        """The finished tokenizer, exactly as it comes back from disk."""
        return SemanticTokenizer.from_part(self.export({}))

    @torch.no_grad()
    def _taught(self, wave: Tensor, lengths: Tensor) -> Tensor | None:
        """What the teacher says of sound as it is, (B, T)."""
        return None if self.teacher is None else self.teacher.tokens_of(self.teacher.features(wave, lengths), lengths)

    def _placed(self, batch: Batch) -> Batch:
        wave, lengths = batch
        return wave.to(self.device), lengths.to(self.device)

    def _augmented(self, wave: Tensor, rng: torch.Generator) -> Tensor:
        """Louder or softer, and noisier; drawn for all rows of the batch."""
        rows = wave.shape[0] * self.world.size
        own = self.world.rows(rows)
        if self.config.gain_db > 0:
            draws = torch.rand(rows, 1, generator=rng)[own].to(wave.device) * 2 - 1
            wave = wave * 10 ** (draws * self.config.gain_db / 20)
        if self.config.noise_db > -200:
            noise = torch.randn(rows, wave.shape[1], generator=rng)[own].to(wave.device)
            wave = wave + noise * 10 ** (self.config.noise_db / 20)
        return wave
