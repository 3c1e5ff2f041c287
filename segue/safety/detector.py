"""Tells recorded sound from what a bundle made of it: a small convolutional network on log-mel pieces.

Both sides have been through the codec, so that the codec's own traces are no clue. A piece is heard by itself, with its
loudness taken out; a longer sound's score is the mean of its pieces' logits.

Shapes: wave (N,) mono; pieces (B, S) at 16 kHz, S samples each; log-mel (B, F, bands), 100 frames a second; logits
(B,), above nought for sound that was made.
Source: Borsos et al. 2022, AudioLM (arXiv 2209.03143), on detecting its own speech: a convolutional network on spectra,
with the recordings passed through SoundStream too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segue import audio
from segue.artifact import Part, full, half, load_part
from segue.config import from_dict, to_disk
from segue.errors import SegueError
from segue.semantic.features import SAMPLE_RATE, LogMel, Moments
from segue.units import seconds_to_samples

KIND = "detector"


@dataclass(frozen=True)
class DetectorConfig:
    """A detector and its training.

    Attributes:
        piece_seconds: heard at once.
        mel_bands: of the spectrogram.
        width: channels.
        dropout: before the last layer.
        steps: of training.
        batch_size: pieces a step, half of them made.
        learning_rate: at the beginning; it falls to nought along a cosine.
        weight_decay: of AdamW.
        masked_share: of the bands, and of the frames, at most, that a step hides from it.
    """

    piece_seconds: float = 1.0
    mel_bands: int = 64
    width: int = 48
    dropout: float = 0.3
    steps: int = 300
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    masked_share: float = 0.2

    def __post_init__(self) -> None:
        if self.piece_seconds < 0.1 or min(self.mel_bands, self.width, self.steps) < 1 or self.batch_size < 2:
            raise SegueError(f"detector: pieces of 0.1 s or more, and bands, width, steps above 0; got {self}")

    @property
    def piece_samples(self) -> int:
        """Samples of a piece."""
        return seconds_to_samples(self.piece_seconds, SAMPLE_RATE)


@final
class Detector(nn.Module):
    """Scores sound by how likely it was made.

    Args:
        config: its size.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.card: dict[str, Any] = {}
        self.requires: dict[str, str] = {}
        self.mel = LogMel(config.mel_bands)
        channels = (config.mel_bands, config.width, config.width, config.width)
        self.layers = nn.ModuleList(
            nn.Conv1d(before, after, 5, stride=2, padding=2) for before, after in pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, config.width) for _ in self.layers)
        self.dropout = nn.Dropout(config.dropout)
        self.last = nn.Linear(2 * config.width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """What `features` gives (B, F, bands) -> logits (B,)."""
        hidden = features.transpose(1, 2)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            hidden = F.gelu(norm(layer(hidden)))
        pooled = torch.cat([hidden.mean(2), hidden.std(2)], dim=1)
        return self.last(self.dropout(pooled))[:, 0]

    @torch.no_grad()
    def features(self, pieces: Tensor) -> Tensor:
        """Pieces (B, S) at 16 kHz -> log-mel (B, F, bands) of each less its mean, normalised by band."""
        return torch.cat([(_level_free(self.mel, part) - self.mel.mean) / self.mel.std for part in pieces.split(256)])

    @torch.no_grad()
    def logits(self, pieces: Tensor) -> Tensor:
        """Pieces (B, S) at 16 kHz -> logits (B,)."""
        if not len(pieces):
            return pieces.new_zeros(0)
        return torch.cat([self(self.features(part)) for part in pieces.split(256)])

    def score(self, wave: Tensor, sample_rate: int) -> float:
        """How likely a sound was made rather than recorded, from 0 to 1, as this detector's training data has it.

        Args:
            wave: (N,) mono, at least a piece long.
            sample_rate: in Hz.

        Raises:
            SegueError: if it is shorter than a piece.
        """
        return float(self.logits(pieces_of(wave, sample_rate, self.config)).mean().sigmoid())

    def to_part(self, card: dict[str, Any], requires: dict[str, str]) -> Part:
        """This detector as an artifact in half precision; `requires` holds the codec's fingerprint."""
        return Part(KIND, {"detector": to_disk(self.config)}, half(self.state_dict()), requires, card)

    @classmethod
    def from_part(cls, part: Part) -> Detector:
        """The detector that `to_part` described.

        Raises:
            SegueError: if the part is no detector or the weights don't fit.
        """
        if part.kind != KIND or "detector" not in part.config:
            raise SegueError(f"this {part.kind} artifact describes no detector; choose another folder")
        detector = cls(from_dict(DetectorConfig, part.config["detector"], KIND, complete=True))
        try:
            detector.load_state_dict(full(part.tensors))
        except RuntimeError as error:
            raise SegueError(f"detector: its weights don't fit its config ({error}); train it again") from error
        detector.card, detector.requires = part.card, part.requires
        return detector.eval()


def load(folder: Path) -> Detector:
    """The detector in a folder.

    Raises:
        SegueError: if there is none, or it is damaged.
    """
    return Detector.from_part(load_part(folder, KIND))


def pieces_of(wave: Tensor, sample_rate: int, config: DetectorConfig) -> Tensor:
    """A wave (N,) as whole pieces (P, S) at 16 kHz, one after the other; what is left over at the end is left out.

    Raises:
        SegueError: if it is shorter than a piece.
    """
    if sample_rate != SAMPLE_RATE:
        wave = torch.from_numpy(audio.to_mono(wave.numpy(), sample_rate, SAMPLE_RATE))
    if wave.shape[-1] < config.piece_samples:
        seconds = wave.shape[-1] / SAMPLE_RATE
        raise SegueError(f"detector: {seconds:.2f} s of sound, at least {config.piece_seconds:g} s are needed")
    return wave.unfold(-1, config.piece_samples, config.piece_samples)


def train(real: Sequence[Tensor], made: Sequence[Tensor], config: DetectorConfig, seed: int) -> Detector:
    """A detector of the difference between two sets of pieces.

    Args:
        real: (P, S) pieces of each recording.
        made: (P, S) pieces of each sound that was made.
        config: of the detector.
        seed: of weights, order and what is hidden.

    Raises:
        SegueError: if a side has no pieces.
    """
    sides = [torch.cat(list(side)) if side else torch.zeros(0, config.piece_samples) for side in (real, made)]
    if not all(len(side) for side in sides):
        raise SegueError(f"detector: {len(sides[0])} real pieces and {len(sides[1])} made ones; give some of both")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = Detector(config).train()
        moments = Moments()
        for side in sides:
            for part in side.split(256):
                moments.add(_level_free(detector.mel, part).flatten(0, 1))
        detector.mel.set_statistics(*moments.mean_and_std())
        features = [detector.features(side) for side in sides]
        optimiser = torch.optim.AdamW(detector.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
        each = config.batch_size // 2
        labels = torch.cat([torch.zeros(each), torch.ones(each)])
        for _ in range(config.steps):
            batch = torch.cat([side[torch.randint(len(side), (each,))] for side in features])
            loss = F.binary_cross_entropy_with_logits(detector(_hidden(batch, config.masked_share)), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    # Rounded as it will be kept, so that what is measured is what is saved.
    detector.load_state_dict(full(half(detector.state_dict())))
    return detector.eval()


def _level_free(mel: LogMel, pieces: Tensor) -> Tensor:
    """Log-mel (B, F, bands) less the mean of each piece: the same however loud the piece is."""
    raw = mel.raw(pieces)
    return raw - raw.mean((1, 2), keepdim=True)


def _hidden(features: Tensor, share: float) -> Tensor:
    """Features (B, F, bands) with a stretch of bands and one of frames set to the mean, other ones in each row."""
    found = features
    for axis in (1, 2):
        size = features.shape[axis]
        widths = torch.rand(len(features), 1) * share * size
        starts = torch.rand(len(features), 1) * (size - widths)
        places = torch.arange(size)[None]
        masked = (places >= starts) & (places < starts + widths)
        found = found.masked_fill(masked[:, :, None] if axis == 1 else masked[:, None, :], 0.0)
    return found
