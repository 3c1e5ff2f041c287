"""One training step of the codec: reconstruct, quantize, and from a given step on, fool the discriminators.

Batches are (wave (B, N), lengths (B,)), N a multiple of the hop. For half of each batch only the first q layers
are summed, q drawn evenly, so that every bitrate decodes and the full rate keeps its quality.

Source: SoundStream (arXiv 2107.03312, III.E); dropout for half of each batch: DAC (arXiv 2306.06546, 3.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from segue.artifact import Part
from segue.codec.discriminators import DiscriminatorConfig, Discriminators
from segue.codec.losses import ReconstructionLoss, discriminator_loss, feature_matching_loss, generator_loss
from segue.codec.soundstream import CodecConfig, SoundStream
from segue.train.balancer import Balancer
from segue.train.optimiser import MovingAverage, adamw, set_rate

Batch = tuple[Tensor, Tensor]
STARTING_BATCHES = 16
BALANCED = ("mel", "complex", "wave", "adversarial", "feature_matching")


@dataclass(frozen=True)
class CodecObjective:
    """Weights of the codec's losses.

    Attributes:
        mel: multi-scale mel distance.
        complex: compressed complex spectra.
        wave: samples.
        commitment: of projections to their codes.
        adversarial: being taken for real.
        feature_matching: of the discriminators' inner layers.
        warm_steps: steps before the codebooks start; until then nothing is rounded to codes.
        adversarial_start_step: discriminators join here; a negative number leaves them out.
        balanced: take the weights as shares of the pull at the output (see segue.train.balancer).
        discriminators: their sizes.
    """

    mel: float = 1.0
    complex: float = 2.0
    wave: float = 5.0
    commitment: float = 0.25
    adversarial: float = 0.1
    feature_matching: float = 0.2
    warm_steps: int = 300
    adversarial_start_step: int = 0
    balanced: bool = False
    discriminators: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)


class CodecTraining:
    """The codec's side of the training loop.

    Args:
        config: sizes of the codec.
        objective: losses and their weights.
        weight_decay: AdamW's.
        gradient_clip: greatest norm of the gradient.
        ema_decay: of the exported average of weights; 0 exports the weights themselves.
        seed: of the initial weights.
        device: where to train.
    """

    def __init__(
        self,
        config: CodecConfig,
        objective: CodecObjective,
        weight_decay: float,
        gradient_clip: float,
        ema_decay: float,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.codec = SoundStream(config).to(self.device)
            self.discriminators = Discriminators(objective.discriminators).to(self.device)
        self.objective, self.gradient_clip, self.seed = objective, gradient_clip, seed
        losses = ReconstructionLoss(config.sample_rate, objective.mel, objective.complex, objective.wave)
        shares = {
            name: getattr(objective, name) for name in ("mel", "complex", "wave", "adversarial", "feature_matching")
        }
        self.balancer = Balancer(shares) if objective.balanced else None
        self.reconstruction = losses.to(self.device)
        self.optimiser = adamw(self.codec.parameters(), weight_decay, betas=(0.8, 0.99))
        self.discriminator_optimiser = adamw(self.discriminators.parameters(), weight_decay, betas=(0.8, 0.99))
        self.average = MovingAverage(self.codec, ema_decay)
        self.steps_done = 0
        self.starting_waves = torch.zeros(0)

    def prepare(self, batches: Callable[[int], Batch]) -> None:
        """Keep the first batches: the codebooks start by k-means on what the warmed-up encoder makes of them."""
        self.starting_waves = torch.cat([batches(index)[0] for index in range(STARTING_BATCHES)])

    def step(self, batch: Batch, rng: torch.Generator, learning_rate: float) -> dict[str, float]:
        wave = batch[0].to(self.device)
        self.codec.train()
        count = self.codec.num_codebooks
        layers = torch.randint(1, count + 1, (wave.shape[0],), generator=rng)
        layers[torch.arange(wave.shape[0]) % 2 == 0] = count
        warm = self.steps_done < self.objective.warm_steps
        if self.steps_done == self.objective.warm_steps:
            self._start_codebooks(rng)
        quantized = self.codec.quantizer(self.codec.features(wave), layers.to(self.device), rng, warm)
        made = self.codec.decoder(quantized.features)
        losses = self.reconstruction(made, wave)
        commitment = self.objective.commitment * quantized.commitment
        start = self.objective.adversarial_start_step
        report = {}
        if 0 <= start <= self.steps_done:
            report["discriminator"] = self._discriminator_step(wave, made.detach(), learning_rate)
            losses |= self._adversarial(wave, made)
        total = torch.stack([*losses.values(), commitment]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        if self.balancer:
            pull = self.balancer.gradient(losses, made)
            torch.autograd.backward([made, commitment], [pull, None])
        else:
            total.backward()
        norm = nn.utils.clip_grad_norm_(self.codec.parameters(), self.gradient_clip)
        set_rate(self.optimiser, learning_rate)
        self.optimiser.step()
        self.average.update()
        self.steps_done += 1
        named = {name: value.item() for name, value in losses.items()} | {"commitment": commitment.item()}
        return {"loss": total.item(), **named, **report, "gradient": norm.item()}

    @torch.no_grad()
    def _start_codebooks(self, rng: torch.Generator) -> None:
        features = [self.codec.features(rows.to(self.device)).flatten(0, 1) for rows in self.starting_waves.split(8)]
        self.codec.quantizer.start(torch.cat(features), rng)

    def _discriminator_step(self, wave: Tensor, made: Tensor, learning_rate: float) -> float:
        loss = discriminator_loss(self.discriminators(wave), self.discriminators(made))
        self.discriminator_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.discriminators.parameters(), self.gradient_clip)
        set_rate(self.discriminator_optimiser, learning_rate)
        self.discriminator_optimiser.step()
        return loss.item()

    def _adversarial(self, wave: Tensor, made: Tensor) -> dict[str, Tensor]:
        self.discriminators.requires_grad_(False)
        fake = self.discriminators(made)
        with torch.no_grad():
            real = self.discriminators(wave)
        self.discriminators.requires_grad_(True)
        return {
            "adversarial": self.objective.adversarial * generator_loss(fake),
            "feature_matching": self.objective.feature_matching * feature_matching_loss(real, fake),
        }

    @torch.no_grad()
    def validate(self, batch: Batch, rng: torch.Generator) -> dict[str, float]:
        """Reconstruction at all layers and at a quarter of them, and how evenly the codes are used."""
        wave = batch[0].to(self.device)
        codec = self._averaged()
        codes = codec.encode(wave)
        losses = self.reconstruction(codec.decode(codes), wave)
        few = self.reconstruction(codec.decode(codes[:, : max(1, codec.num_codebooks // 4)]), wave)
        perplexity = [_perplexity(codes[:, index], codec.codebook_size) for index in range(codec.num_codebooks)]
        return {
            "loss": float(torch.stack(list(losses.values())).sum()),
            **{name: float(value) for name, value in losses.items()},
            "mel_few": float(few["mel"]),
            "perplexity_first": perplexity[0],
            "perplexity_least": min(perplexity),
        }

    def _averaged(self) -> SoundStream:
        codec = SoundStream(self.codec.config).to(self.device)
        codec.load_state_dict(self.average.average)
        return codec.eval()

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps_done": self.steps_done,
            "starting_waves": self.starting_waves,
            "codec": self.codec.state_dict(),
            "discriminators": self.discriminators.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "discriminator_optimiser": self.discriminator_optimiser.state_dict(),
            "average": self.average.state_dict(),
            "balancer": self.balancer.state_dict() if self.balancer else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps_done = state["steps_done"]
        self.starting_waves = state["starting_waves"]
        self.codec.load_state_dict(state["codec"])
        self.discriminators.load_state_dict(state["discriminators"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])
        self.average.load_state_dict(state["average"])
        if self.balancer:
            self.balancer.load_state_dict(state["balancer"])

    def export(self, card: dict[str, Any]) -> Part:
        return self._averaged().to_part(card)


def _perplexity(codes: Tensor, size: int) -> float:
    share = torch.bincount(codes.flatten(), minlength=size).double()
    share = share / share.sum()
    return float((-(share * share.clamp(min=1e-12).log()).sum()).exp())
