"""Wave to semantic tokens: log-mel, encoder up to one layer, discriminant axes if any, nearest centroid. Needs torch
alone.

Shapes: wave (B, N) mono float32 at 16 kHz; tokens (B, T) int64 at 25 Hz, T = ceil(N / 640); hidden (B, rate * T, D),
`rate` frames of the encoder a token, whose mean is clustered: as it is, or its (A) places on the axes.
Source: AudioLM, arXiv 2209.03143, section 3.2 and 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segue.artifact import Part, full, half
from segue.config import from_dict, later, to_disk
from segue.errors import SegueError
from segue.semantic.conformer import Encoder, EncoderConfig
from segue.semantic.discriminant import CLUSTERS
from segue.semantic.features import HOP_LENGTH, SAMPLE_RATE, STACK, LogMel, frame_mask, silenced
from segue.semantic.kmeans import evened, nearest
from segue.semantic.packed import ONWARD
from segue.semantic.recurrent import RecurrentConfig, RecurrentEncoder
from segue.units import samples_to_frames
from segue.waves import check_wave

PART_KIND = "semantic"


@dataclass(frozen=True)
class TokenizerConfig:
    """All that tokens depend on besides the weights.

    Attributes:
        encoder: sizes of the encoder.
        layer: block whose output is clustered, counted from 0 over both modules.
        vocab_size: clusters, K.
        chunk_frames: long waves are coded in chunks of so many token frames, 40 ms each.
        context_frames: and each chunk sees so many frames of its neighbours on either side.
        centre_frames: activations are clustered less their mean over so many frames on either side, which takes the
            voice and the room away and leaves what changes; 0 clusters them as they are.
        recurrent: sizes of a recurrent encoder, which then stands for the Conformer of `encoder`.
        angular: activations are clustered by their direction alone.
        interleaved: the encoder hears the sound a second time, half a frame on, and its frames are taken in turn: they
            are half as far apart, at twice the work.
        axes: A, discriminant axes that activations are brought to before they are clustered
            (`segue.semantic.discriminant`); 0 clusters them as they are.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    layer: int = 3
    vocab_size: int = 512
    chunk_frames: int = 500
    context_frames: int = 100
    centre_frames: int = 25
    recurrent: RecurrentConfig | None = later(None)  # noqa: RUF009
    angular: bool = later(False)
    interleaved: bool = later(False)
    axes: int = later(0)

    def __post_init__(self) -> None:
        if not 0 <= self.layer < self.sizes.depth:
            raise SegueError(f"layer {self.layer}: the encoder has blocks 0 to {self.sizes.depth - 1}")
        if self.vocab_size < 2 or self.chunk_frames < 1 or self.context_frames < 0 or self.centre_frames < 0:
            raise SegueError("tokenizer: vocab_size must be at least 2, chunk_frames 1, context and centre_frames 0")
        if not 0 <= self.axes < CLUSTERS:
            raise SegueError(
                f"tokenizer.axes {self.axes}: from 0 to {CLUSTERS - 1}, for {CLUSTERS} clusters are told apart"
            )

    def checked(self) -> TokenizerConfig:
        """Itself, where an encoder is about to be made or clustered.

        Raises:
            SegueError: if there are to be more axes than the encoder is wide.
        """
        if self.axes > self.hidden_width:
            raise SegueError(f"tokenizer.axes {self.axes}: an encoder of width {self.hidden_width} has at most as many")
        return self

    @property
    def sizes(self) -> EncoderConfig | RecurrentConfig:
        """Of the encoder that there is."""
        return self.encoder if self.recurrent is None else self.recurrent

    @property
    def hidden_width(self) -> int:
        """D, of the encoder's output."""
        return self.encoder.width if self.recurrent is None else self.recurrent.hidden_width

    @property
    def clustered_width(self) -> int:
        """Of what is clustered: A, or D without axes."""
        return self.axes or self.hidden_width


class SemanticTokenizer(nn.Module):
    """What is said or played, as one of `vocab_size` ids every 40 ms."""

    sample_rate = SAMPLE_RATE
    hop_length = HOP_LENGTH
    frame_rate = SAMPLE_RATE / HOP_LENGTH
    mean: Tensor
    std: Tensor
    centroids: Tensor
    axes: Tensor | None

    def __init__(self, config: TokenizerConfig, tensors: dict[str, Tensor]) -> None:
        """Args: config; tensors: names as `to_part` gives them, in half precision, as they are shipped.

        Raises:
            SegueError: if names or shapes don't fit the config.
        """
        super().__init__()
        self.config = config
        self.vocab_size = config.vocab_size
        self.features = LogMel(config.checked().sizes.mel_bands)
        self.encoder = encoder_of(config.sizes, config.layer + 1)
        self.register_buffer("axes", torch.zeros(config.hidden_width, config.axes) if config.axes else None)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.zeros(config.clustered_width))
        self.register_buffer("centroids", torch.zeros(config.vocab_size, config.clustered_width))
        try:
            self.load_state_dict(full(tensors))
        except RuntimeError as error:
            detail = str(error).splitlines()[-1].strip()
            raise SegueError(f"semantic tokenizer: weights don't fit the config ({detail})") from error
        self.requires_grad_(False).eval()
        self.fingerprint = self.to_part({}).fingerprint

    @torch.inference_mode()
    def encode(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Semantic tokens of each row.

        On a CPU rows are coded one by one: no slower there, and a row's tokens can't depend on its batch.

        Args:
            wave: (B, N) mono float32 in [-1, 1] at 16 kHz.
            lengths: (B,) samples of each row that are real; None if all are.

        Returns:
            tokens (B, T) int64, T = ceil(N / 640); frames beyond a row's length are 0.

        Raises:
            SegueError: on a wrong shape or dtype, an empty wave, NaN, or lengths that don't fit.
        """
        check_wave(wave, lengths)
        wave = wave.float()
        rows, samples = wave.shape
        lengths = torch.full((rows,), samples) if lengths is None else lengths.cpu().long()
        tokens = torch.zeros(rows, samples_to_frames(samples, HOP_LENGTH), dtype=torch.int64, device=wave.device)
        if wave.device.type != "cpu":
            return self._encode_chunks(wave, lengths, tokens)
        for row, length in enumerate(lengths.tolist()):
            frames = samples_to_frames(length, HOP_LENGTH)
            self._encode_chunks(wave[row : row + 1, :length], lengths[row : row + 1], tokens[row : row + 1, :frames])
        return tokens

    def _encode_chunks(self, wave: Tensor, lengths: Tensor, tokens: Tensor) -> Tensor:
        """Fill tokens (B, T) chunk by chunk: memory is bounded, however long the wave."""
        chunk, context = self.config.chunk_frames, self.config.context_frames
        for first in range(0, tokens.shape[1], chunk):
            last = min(first + chunk, tokens.shape[1])
            start, stop = max(0, first - context), last + context
            piece = wave[:, start * HOP_LENGTH : stop * HOP_LENGTH]
            inside = (lengths - start * HOP_LENGTH).clamp(0, piece.shape[1]).to(wave.device)
            coded = self.tokens_of(self.features(piece, inside), inside)
            tokens[:, first:last] = coded[:, first - start : last - start]
        return tokens

    def tokens_of(self, log_mel: Tensor, lengths: Tensor) -> Tensor:
        """Tokens (B, T) of log-mel (B, 4T, bands) at once; frames beyond `lengths` (B,) samples are 0."""
        valid = frame_mask(lengths, log_mel.shape[1] // STACK)
        config = self.config
        found = centred(pooled(self.encoder, log_mel, valid, config), valid, config.centre_frames)
        placed = evened(found if self.axes is None else found @ self.axes, self.mean, self.std, config.angular)
        return nearest(placed, self.centroids).masked_fill(~valid, 0)

    @property
    def layer_rate(self) -> float:
        """Frames a second of `activations`, in Hz."""
        return self.frame_rate * self.encoder.rate * (2 if self.config.interleaved else 1)

    @torch.inference_mode()
    def activations(self, wave: Tensor) -> list[Tensor]:
        """The output (R * T, D) of each block up to the clustered one, for a wave (N,), all of it at once.

        R is `rate`, or twice that if interleaved. Where there are axes, the last one's places on them, (R * T, A), come
        after it.
        """
        log_mel = self.features(wave[None].float())
        every = torch.ones(1, log_mel.shape[1] // STACK, dtype=torch.bool, device=wave.device)
        outputs = heard(self.encoder, log_mel, every, self.config)
        return [output[0] for output in outputs] + ([] if self.axes is None else [outputs[-1][0] @ self.axes])

    def to_part(self, card: dict[str, Any]) -> Part:
        """As an artifact; `card` says what it was trained on and does not enter the fingerprint."""
        return Part(PART_KIND, to_disk(self.config), half(self.state_dict()), card=card)

    @classmethod
    def from_part(cls, part: Part) -> SemanticTokenizer:
        """The tokenizer that `to_part` described.

        Raises:
            SegueError: if the part is of another kind, or its config and weights don't fit.
        """
        if part.kind != PART_KIND:
            raise SegueError(f"a {part.kind} artifact, a {PART_KIND} was asked for")
        if ONWARD in part.requires:
            raise SegueError(f"semantic tokenizer {part.fingerprint}: it is packed; load it by its name or folder")
        return cls(from_dict(TokenizerConfig, part.config, "semantic", complete=True), part.tensors)


def encoder_of(sizes: EncoderConfig | RecurrentConfig, depth: int | None = None) -> Encoder | RecurrentEncoder:
    """The encoder of these sizes, or its first `depth` blocks."""
    return RecurrentEncoder(sizes, depth) if isinstance(sizes, RecurrentConfig) else Encoder(sizes, depth)


def pooled(encoder: Encoder | RecurrentEncoder, log_mel: Tensor, valid: Tensor, config: TokenizerConfig) -> Tensor:
    """The output of the layer that is clustered, one vector a token: the mean of its frames.

    Args:
        encoder: of at least `config.layer` + 1 blocks.
        log_mel: (B, 4T, bands), normalised.
        valid: (B, T), false where a row has ended.
        config: which layer, and how it is heard.

    Returns:
        (B, T, D).
    """
    hidden = heard(encoder, log_mel, valid, config)[-1]
    return hidden.unflatten(1, (valid.shape[1], -1)).mean(2)


def heard(encoder: Encoder | RecurrentEncoder, log_mel: Tensor, valid: Tensor, config: TokenizerConfig) -> list[Tensor]:
    """The output (B, rate * T, D) of each block up to `config.layer`; twice as many frames if interleaved."""

    def once(own: Tensor) -> list[Tensor]:
        return encoder(encoder.subsampling(own), valid, config.layer + 1)

    own = silenced(log_mel, valid)
    if not config.interleaved:
        return once(own)
    half = STACK // encoder.rate // 2
    later_on = F.pad(own[:, half:], (0, 0, 0, half))
    return [torch.stack(pair, dim=2).flatten(1, 2) for pair in zip(once(own), once(later_on), strict=True)]


def centred(hidden: Tensor, valid: Tensor, frames: int) -> Tensor:
    """Activations less their mean over `frames` to either side.

    Args:
        hidden: (B, T, D).
        valid: (B, T), false where a row has ended.
        frames: reach of the mean; 0 returns `hidden`.
    """
    if frames == 0:
        return hidden
    counted = torch.cat([hidden * valid[..., None], valid[..., None].to(hidden)], dim=-1)
    sums = F.pad(counted.double().cumsum(dim=1), (0, 0, 1, 0))
    steps = torch.arange(hidden.shape[1], device=hidden.device)
    within = sums[:, (steps + frames + 1).clamp(max=hidden.shape[1])] - sums[:, (steps - frames).clamp(min=0)]
    return hidden - (within[..., :-1] / within[..., -1:].clamp(min=1)).to(hidden)
