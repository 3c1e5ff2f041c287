"""One training step of the codec: reconstruct, quantize, and from a given step on, fool the discriminators.

Batches are (wave (b, N), lengths (b,)), this process's rows of B, N a multiple of the hop. For half of each batch
only the first q layers are summed, q drawn evenly, so that every bitrate decodes and the full rate keeps its quality.
Codebooks follow the whole batch, whatever processes and parts it is spread over.

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
from segue.codec.losses import ReconstructionLoss, discriminator_loss, feature_distances, generator_loss
from segue.codec.soundstream import CodecConfig, SoundStream, load_weights
from segue.codec.spectral import SpectralDecoder
from segue.config import later
from segue.errors import SegueError
from segue.train.accumulate import in_parts
from segue.train.balancer import Balancer
from segue.train.fabric import World, alone
from segue.train.optimiser import MovingAverage, adamw, set_rate

Batch = tuple[Tensor, Tensor]
STARTING_BATCHES = 16
HEARD = ("mel", "complex", "wave", "log", "loudness", "structure")
BALANCED = (*HEARD, "adversarial", "feature_matching")


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
        residual: of the energy that the codes' sum leaves of the latent, layer by layer.
        log: of log magnitudes of spectra as they are.
        loudness: of loudness as PESQ has it (segue.codec.hearing).
        structure: of levels that rise and fall together as ViSQOL has it (segue.codec.hearing).
        dropped_share: share of each batch's rows that lose their last layers.
        decoder_only: leave encoder and codebooks as they were: the codes, and all that was trained on them, stay valid.
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
    residual: float = later(0.0)
    log: float = later(0.0)
    loudness: float = later(0.0)
    structure: float = later(0.0)
    dropped_share: float = later(0.5)
    balanced: bool = later(False)
    decoder_only: bool = later(False)
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
        accumulate: parts a batch is worked through in.
        world: where to train; None is one process on the CPU.
        begin: a codec of this config to go on from, codebooks included; None begins with random weights.

    Raises:
        SegueError: if `begin` has other weights than the config asks for, or is missing where its codes are to stay.
    """

    unit = "audio_seconds"

    def __init__(
        self,
        config: CodecConfig,
        objective: CodecObjective,
        weight_decay: float,
        gradient_clip: float,
        ema_decay: float,
        seed: int,
        accumulate: int = 1,
        world: World | None = None,
        begin: Part | None = None,
    ) -> None:
        self.world = world or alone()
        self.device = self.world.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.codec = SoundStream(config)
            self.discriminators = Discriminators(objective.discriminators)
        if begin is not None:
            load_weights(self.codec, begin)
        self.codes_of = begin if objective.decoder_only else None
        if objective.decoder_only:
            if begin is None:
                raise SegueError("objective.decoder_only: there are no codes to keep; name the codec with --init")
            self.codec.encoder.requires_grad_(False)
            self.codec.quantizer.requires_grad_(False)
        self.warm_steps = objective.warm_steps if begin is None else -1
        self.objective, self.gradient_clip, self.accumulate, self.seed = objective, gradient_clip, accumulate, seed
        self._pass = self.world.wrap(_Pass(self.codec, objective.decoder_only))
        self._judgement = self.world.wrap(_Judgement(self.discriminators))
        for layer in self.codec.quantizer.layers:
            layer.together = self.world.gather  # type: ignore[assignment]
        weights = {f"{name}_weight": getattr(objective, name) for name in HEARD}
        losses = ReconstructionLoss(config.sample_rate, **weights)
        self.balancer = None
        if objective.balanced:
            shares = {name: getattr(objective, name) for name in BALANCED}
            self.balancer = Balancer(shares, lambda norm: self.world.mean(norm) / self.world.size)
        self.reconstruction = losses.to(self.device)
        self.optimiser = adamw(self.codec.parameters(), weight_decay, betas=(0.8, 0.99))
        self.discriminator_optimiser = adamw(self.discriminators.parameters(), weight_decay, betas=(0.8, 0.99))
        self.average = MovingAverage(self.codec, ema_decay)
        self.steps_done = 0
        self.starting_waves = torch.zeros(0)

    def prepare(self, batches: Callable[[int], Batch]) -> None:
        """Keep the first batches: the codebooks start by k-means on what the warmed-up encoder makes of them."""
        if self.warm_steps >= 0:
            self.starting_waves = torch.cat([batches(index)[0] for index in range(STARTING_BATCHES)])

    def amount(self, batch: Batch) -> tuple[float, float]:
        """Seconds of sound in a batch, and with padding."""
        rate = self.codec.sample_rate
        return float(batch[1].sum()) / rate, batch[0].numel() / rate

    def step(self, batch: Batch, rng: torch.Generator, learning_rate: float) -> dict[str, float]:
        wave = batch[0].to(self.device)
        self.codec.train()
        layers = self._layers_in_use(wave.shape[0], rng)
        warm = self.steps_done < self.warm_steps
        if self.steps_done == self.warm_steps:
            self._start_codebooks(rng)
        made, commitment, left, features = self._pass(wave, layers, rng, warm, self.accumulate)
        output = made.detach().requires_grad_()
        losses = self._heard(output, wave)
        commitment, left = self.objective.commitment * commitment, self.objective.residual * left
        start = self.objective.adversarial_start_step
        report = {}
        if 0 <= start <= self.steps_done:
            report["discriminator"] = self._discriminator_step(wave, output.detach(), learning_rate)
            self.discriminators.requires_grad_(False)
            losses |= self._adversarial(output, wave)
        total = torch.stack(list(losses.values())).sum()
        pull = self.balancer.gradient(losses, output) if self.balancer else torch.autograd.grad(total, output)[0]
        self.optimiser.zero_grad(set_to_none=True)
        self.world.backward((made * pull).sum() + commitment + left)
        self.discriminators.requires_grad_(True)
        if self.accumulate > 1 and not warm and not self.objective.decoder_only:
            self._follow(features, layers, rng)
        norm = nn.utils.clip_grad_norm_(self.codec.parameters(), self.gradient_clip)
        set_rate(self.optimiser, learning_rate)
        self.optimiser.step()
        self.average.update()
        self.steps_done += 1
        named = {"loss": total + commitment + left, **losses, "commitment": commitment}
        if self.objective.residual:
            named["residual"] = left
        return self.world.floats({**named, **report, "gradient": norm})

    def _layers_in_use(self, rows: int, rng: torch.Generator) -> Tensor:
        """(b,) layers of the own rows, drawn for all: every one for some rows, 1 to all for the rest, evenly mixed."""
        count, first, share = self.codec.num_codebooks, rows * self.world.rank, self.objective.dropped_share
        layers = torch.randint(1, count + 1, (rows * self.world.size,), generator=rng)
        place = torch.arange(len(layers), dtype=torch.float64)
        layers[((place + 1) * share).floor() == (place * share).floor()] = count
        return layers[first : first + rows].to(self.device)

    @torch.no_grad()
    def _start_codebooks(self, rng: torch.Generator) -> None:
        features = [self.codec.features(rows.to(self.device)).flatten(0, 1) for rows in self.starting_waves.split(8)]
        self.codec.quantizer.start(torch.cat(features), rng)
        self.starting_waves = torch.zeros(0)

    @torch.no_grad()
    def _follow(self, features: Tensor, layers: Tensor, rng: torch.Generator) -> None:
        """Let the codebooks follow a batch that was worked through in parts."""
        self.codec.quantizer.train()
        self.codec.quantizer(features, layers, rng)

    def _heard(self, made: Tensor, wave: Tensor) -> dict[str, Tensor]:
        parts = in_parts(self.reconstruction, self.accumulate, made, wave)
        return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}

    def _discriminator_step(self, wave: Tensor, made: Tensor, learning_rate: float) -> Tensor:
        loss = self._judgement(wave, made, self.accumulate)
        self.discriminator_optimiser.zero_grad(set_to_none=True)
        self.world.backward(loss)
        nn.utils.clip_grad_norm_(self.discriminators.parameters(), self.gradient_clip)
        set_rate(self.discriminator_optimiser, learning_rate)
        self.discriminator_optimiser.step()
        return loss

    def _adversarial(self, made: Tensor, wave: Tensor) -> dict[str, Tensor]:
        """Being taken for real, and the discriminators' inner layers: SoundStream, equations 2 and 3."""

        def judged(made: Tensor, wave: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            fake = _full(self.discriminators(made))
            with torch.no_grad():
                real = _full(self.discriminators(wave))
            return generator_loss(fake), *feature_distances(real, fake)

        with self.world.autocast():
            parts = in_parts(judged, self.accumulate, made, wave)
        taken, apart, sizes = (torch.stack(values).mean(dim=0) for values in zip(*parts, strict=True))
        matching = (apart / self.world.mean(sizes).clamp(min=1e-4)).mean()
        return {
            "adversarial": self.objective.adversarial * taken,
            "feature_matching": self.objective.feature_matching * matching,
        }

    @torch.no_grad()
    def validate(self, batch: Batch, rng: torch.Generator) -> dict[str, float]:
        """Reconstruction at all layers and at a quarter of them, and how evenly the codes are used."""
        wave = batch[0].to(self.device)
        codec = self._averaged()
        codes = codec.encode(wave)
        losses = self.reconstruction(codec.decode(codes), wave)
        few = self.reconstruction(codec.decode(codes[:, : max(1, codec.num_codebooks // 4)]), wave)
        counts = [torch.bincount(layer.flatten(), minlength=codec.codebook_size) for layer in codes.unbind(1)]
        perplexity = [_perplexity(layer) for layer in self.world.sum(torch.stack(counts))]
        total = torch.stack(list(losses.values())).sum()
        return {
            **self.world.floats({"loss": total, **losses, "mel_few": few["mel"]}),
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
        return self._averaged().to_part(card, self.codes_of)


class _Pass(nn.Module):
    """Encoder, quantizer and decoder as one forward pass, which is what processes share the gradients of."""

    def __init__(self, codec: SoundStream, decoder_only: bool) -> None:
        super().__init__()
        self.codec, self.decoder_only = codec, decoder_only
        if isinstance(codec.decoder, SpectralDecoder):  # spectra are worked out in full precision
            codec.decoder.head.register_forward_hook(lambda module, given, made: _full(made))

    def forward(
        self, wave: Tensor, layers: Tensor, rng: torch.Generator, warm: bool, parts: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """made (b, N), the commitment loss, what the codes leave, and the encoder's features (b, T, D)."""
        follow = parts == 1 and not self.decoder_only
        self.codec.quantizer.train(follow)  # in parts, codebooks must stay until all gradients are known

        def through(wave: Tensor, layers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.decoder_only):
                features = _full(self.codec.features(wave))
            with torch.autocast(wave.device.type, enabled=False):  # or codes would be chosen in low precision
                quantized = self.codec.quantizer(features, layers, rng, warm)
            made = self.codec.decoder(quantized.features)
            return made, quantized.commitment, quantized.left, features.detach()

        made, commitment, left, features = zip(*in_parts(through, parts, wave, layers), strict=True)
        return torch.cat(made), torch.stack(commitment).mean(), torch.stack(left).mean(), torch.cat(features)


class _Judgement(nn.Module):
    """The discriminators' own loss as a forward pass."""

    def __init__(self, discriminators: Discriminators) -> None:
        super().__init__()
        self.discriminators = discriminators

    def forward(self, real: Tensor, fake: Tensor, parts: int) -> Tensor:
        def judged(real: Tensor, fake: Tensor) -> Tensor:
            return discriminator_loss(_full(self.discriminators(real)), _full(self.discriminators(fake)))

        return torch.stack(in_parts(judged, parts, real, fake)).mean()


def _full(value: Any) -> Any:
    """Nested lists of tensors in at least single precision: losses and codes are worked out in it."""
    if isinstance(value, list):
        return [_full(item) for item in value]
    return value.float() if value.dtype == torch.bfloat16 else value


def _perplexity(counts: Tensor) -> float:
    """Of codes used so many times."""
    share = counts.double() / counts.sum()
    return float(torch.exp(-(share * share.clamp(min=1e-12).log()).sum()))
