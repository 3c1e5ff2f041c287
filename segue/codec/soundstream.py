"""SoundStream: an encoder, a residual vector quantizer and a decoder behind the codec seam.

wave (B, N) -> features (B, T, D) -> codes (B, Q, T) -> features (B, T, D) -> wave (B, T * hop_length).

Encoder and decoder are exchangeable pairs under one quantizer: SEANet, the paper's, and the frame-domain pair
that a CPU can train.

Source: SoundStream (arXiv 2107.03312); its place in AudioLM: arXiv 2209.03143, III.B.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segue import units
from segue.artifact import Part, full, half
from segue.codec.quantizer import ResidualQuantizer
from segue.codec.seam import check_codes, checked_count
from segue.codec.seanet import SeanetConfig, SeanetDecoder, SeanetEncoder, fold_weight_norm, folded
from segue.codec.spectral import SpectralConfig, SpectralDecoder, SpectralEncoder
from segue.codec.streaming import LONG_CHUNK_FRAMES, CodecStream, Memory, decode_chunks, encode_chunks
from segue.config import from_dict, later, to_disk
from segue.errors import SegueError
from segue.waves import check_wave

TOTAL = ".total"
"""Ends the names of the codebooks' moving sums."""


@dataclass(frozen=True)
class CodecConfig:
    """A whole SoundStream.

    Attributes:
        pair: which encoder and decoder.
        sample_rate: in Hz.
        hop_length: samples a frame of codes.
        num_codebooks: Q.
        codebook_size: codes a codebook.
        code_width: dimensions of a factorised code.
        spectral: sizes of the frame-domain pair.
        seanet: sizes of SEANet.
        quantizer: factorised, normalised codes, or SoundStream's plain ones, as wide as the latent.
        latent_width: dimensions to which the features are projected before the first codebook; 0 codes them as they
            are.
    """

    pair: Literal["spectral", "seanet"] = "spectral"
    sample_rate: int = 16_000
    hop_length: int = 320
    num_codebooks: int = 12
    codebook_size: int = 1024
    code_width: int = 8
    spectral: SpectralConfig = field(default_factory=SpectralConfig)
    seanet: SeanetConfig = field(default_factory=SeanetConfig)
    quantizer: Literal["factorised", "plain"] = later("factorised")
    latent_width: int = later(0)

    def __post_init__(self) -> None:
        for name in ("sample_rate", "hop_length", "num_codebooks", "codebook_size", "code_width"):
            if getattr(self, name) < 1:
                raise SegueError(f"codec {name} {getattr(self, name)}: at least 1")
        if self.latent_width < 0:
            raise SegueError(f"codec latent_width {self.latent_width}: from 0 on")


class SoundStream(nn.Module):
    """The codec.

    Args:
        config: sizes.

    Attributes:
        sample_rate: in Hz.
        hop_length: samples a frame.
        frame_rate: frames a second, in Hz.
        num_codebooks: Q.
        codebook_size: codes a codebook.
        delay_samples: samples of a frame that aren't final with it; the decoder's overlap.
        latency_samples: algorithmic latency from config: sample n of `decode(encode(wave))` hears none of the wave
            from n + latency_samples on.
        fingerprint: of the artifact it was loaded from; empty for one that is not on disk.
        codes_fingerprint: of the codec that its codes come from: another one where the decoder alone was trained on.
        stream: whose scope is open; None outside `with codec.streaming()`.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length
        self.frame_rate = config.sample_rate / config.hop_length
        self.num_codebooks, self.codebook_size = config.num_codebooks, config.codebook_size
        self.fingerprint = self.codes_fingerprint = ""
        self.stream: CodecStream | None = None
        self.encoder: SeanetEncoder | SpectralEncoder
        self.decoder: SeanetDecoder | SpectralDecoder
        if config.pair == "seanet":
            self.encoder = SeanetEncoder(config.seanet, config.hop_length)
            self.decoder = SeanetDecoder(config.seanet, config.hop_length)
            width = config.seanet.width
        else:
            self.encoder = SpectralEncoder(config.spectral, config.hop_length)
            self.decoder = SpectralDecoder(config.spectral, config.hop_length)
            width = config.spectral.width
        code_width = None if config.quantizer == "plain" else config.code_width
        sizes = (width, code_width, config.num_codebooks, config.codebook_size)
        self.quantizer = ResidualQuantizer(*sizes, config.latent_width or None)
        self.delay_samples = self.decoder.delay_samples
        self.latency_samples = config.hop_length + self.delay_samples

    @property
    def latency_seconds(self) -> float:
        """Algorithmic latency: a frame, and the overlap of the frame-domain decoder (50 ms; SEANet 20 ms)."""
        return units.samples_to_seconds(self.latency_samples, self.sample_rate)

    def features(self, wave: Tensor, memory: Memory | None = None) -> Tensor:
        """wave (B, N) -> features (B, T, D), with T = ceil(N / hop_length); the end is padded with zeros."""
        return self.encoder(F.pad(wave, (0, -wave.shape[-1] % self.hop_length)), memory)

    def streaming(self) -> CodecStream:
        """A new stream, for sound that comes in chunks; `with` it, the codec's encode and decode are the stream's."""
        return CodecStream(self)

    @torch.no_grad()
    def encode(
        self, wave: Tensor, lengths: Tensor | None = None, num_codebooks: int | None = None, candidates: int = 1
    ) -> Tensor:
        """Code a wave; in a streaming scope, the next chunk of one (`CodecStream.encode`).

        Args:
            wave: (B, N) mono floats at `sample_rate`.
            lengths: (B,) samples of each row that are sound; the codes of what lies beyond are 0.
            num_codebooks: q, layers to use; all by default.
            candidates: sequences of codes that are weighed against each other in each frame. 1, which the stages
                have learnt, takes the nearest code layer by layer; more leave less over.

        Returns:
            codes (B, q, T) int64, T = ceil(N / hop_length).

        Raises:
            SegueError: if the wave is not a finite float (B, N), N >= 1, lengths don't fit it, or q or candidates are
                out of range.
        """
        if self.stream is not None:
            return self.stream.encode(wave, lengths, num_codebooks, candidates)
        if lengths is None:
            if wave.ndim == 2 and wave.shape[1] > LONG_CHUNK_FRAMES * self.hop_length:  # memory stays that of a piece
                return torch.cat(list(encode_chunks(self, [wave], num_codebooks, candidates)), dim=-1)
            return self.encode_chunk(wave, None, num_codebooks, candidates)
        check_wave(wave, lengths)
        samples = torch.arange(wave.shape[-1], device=wave.device)
        codes = self.encode_chunk(wave * (samples < lengths[:, None]), None, num_codebooks, candidates)
        frames = torch.arange(codes.shape[-1], device=wave.device) * self.hop_length
        return codes * (frames < lengths[:, None])[:, None]

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Turn codes back into sound; in a streaming scope, the next codes of one (`CodecStream.decode`).

        Args:
            codes: (B, q, T) indices of the first q layers.

        Returns:
            wave (B, T * hop_length).

        Raises:
            SegueError: if the shape, the dtype, q or an index is out of range.
        """
        if self.stream is not None:
            return self.stream.decode(codes)
        if codes.ndim == 3 and codes.shape[-1] > LONG_CHUNK_FRAMES:
            return torch.cat(list(decode_chunks(self, [codes])), dim=-1)
        return self.decode_chunk(codes, None)

    @torch.no_grad()
    def encode_chunk(
        self, wave: Tensor, memory: Memory | None, num_codebooks: int | None, candidates: int = 1
    ) -> Tensor:
        """`encode` without lengths, going on from the state in `memory` and bringing it up to date."""
        check_wave(wave, None)
        count = checked_count(self, num_codebooks, candidates)
        return self.quantizer.encode(self.features(wave.float(), memory), count, candidates)

    @torch.no_grad()
    def decode_chunk(self, codes: Tensor, memory: Memory | None) -> Tensor:
        """`decode`, going on from the state in `memory` and bringing it up to date: `delay_samples` late."""
        check_codes(codes, self.num_codebooks, self.codebook_size)
        return self.decoder(self.quantizer.decode(codes.long()), memory)

    @torch.no_grad()
    def decode_rest(self, rows: int, memory: Memory) -> Tensor:
        """What the decoder still has to say after the last codes: wave (rows, at least `delay_samples`)."""
        frames = units.samples_to_frames(self.delay_samples, self.hop_length)
        weight = next(self.decoder.parameters())
        return self.decoder(weight.new_zeros(rows, frames, self.decoder.width), memory)

    def codebooks(self) -> Tensor:
        """The codes' own vectors (Q, codebook_size, code_width): which codes sound alike."""
        return torch.stack([layer.codebook for layer in self.quantizer.layers])  # type: ignore[misc]

    def to_part(self, card: dict[str, Any], codes_of: Part | None = None) -> Part:
        """The codec as an artifact in half precision.

        Args:
            card: what it was trained on.
            codes_of: the codec whose encoder and codebooks it kept, if any; they are taken from there to the bit.
        """
        tensors = half(folded(_without_totals(self.state_dict())))
        if codes_of is None:
            return Part("codec", to_disk(self.config), tensors, card=card)
        tensors |= {
            name: kept for name, kept in _without_totals(codes_of.tensors).items() if not name.startswith("decoder.")
        }
        return Part("codec", to_disk(self.config), tensors, {"codec": codes_of.token_fingerprint}, card)

    @classmethod
    def from_part(cls, part: Part) -> SoundStream:
        """The codec an artifact holds, ready for use.

        Raises:
            SegueError: if config and weights do not fit each other.
        """
        codec = cls(from_dict(CodecConfig, part.config, "codec", complete=True))
        fold_weight_norm(codec)
        load_weights(codec, part)
        codec.fingerprint, codec.codes_fingerprint = part.fingerprint, part.token_fingerprint
        return codec.eval()


def load_weights(module: nn.Module, part: Part) -> None:
    """Put a part's weights into a module; sums that codebooks are the means of begin anew as what makes just these.

    Raises:
        SegueError: if a weight is missing, unknown or of another shape.
    """
    weights = full(_without_totals(part.tensors))
    for name in [name for name in weights if name.endswith(".codebook")]:
        layer = name.removesuffix(".codebook")
        if f"{layer}.usage" in weights:
            weights[layer + TOTAL] = weights[name] * weights[f"{layer}.usage"][:, None]
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise SegueError(f"{part.kind} artifact: weights and config do not fit ({first})") from error


def _without_totals(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights less what follows from codebooks and their use, and may be more than half precision holds."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(TOTAL)}
