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

from segue.artifact import Part, full, half
from segue.codec.quantizer import ResidualQuantizer
from segue.codec.seanet import SeanetConfig, SeanetDecoder, SeanetEncoder
from segue.codec.spectral import SpectralConfig, SpectralDecoder, SpectralEncoder
from segue.config import from_dict, to_dict
from segue.errors import SegueError


@dataclass(frozen=True)
class CodecConfig:
    """A whole SoundStream.

    Attributes:
        pair: which encoder and decoder.
        sample_rate: in Hz.
        hop_length: samples a frame of codes.
        num_codebooks: Q.
        codebook_size: codes a codebook.
        code_width: dimensions of a code.
        spectral: sizes of the frame-domain pair.
        seanet: sizes of SEANet.
    """

    pair: Literal["spectral", "seanet"] = "spectral"
    sample_rate: int = 16_000
    hop_length: int = 320
    num_codebooks: int = 12
    codebook_size: int = 1024
    code_width: int = 8
    spectral: SpectralConfig = field(default_factory=SpectralConfig)
    seanet: SeanetConfig = field(default_factory=SeanetConfig)

    def __post_init__(self) -> None:
        for name in ("sample_rate", "hop_length", "num_codebooks", "codebook_size", "code_width"):
            if getattr(self, name) < 1:
                raise SegueError(f"codec {name} {getattr(self, name)}: at least 1")


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
        fingerprint: of the artifact it was loaded from; empty for one that is not on disk.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length
        self.frame_rate = config.sample_rate / config.hop_length
        self.num_codebooks, self.codebook_size = config.num_codebooks, config.codebook_size
        self.fingerprint = ""
        self.encoder: nn.Module
        self.decoder: nn.Module
        if config.pair == "seanet":
            self.encoder = SeanetEncoder(config.seanet, config.hop_length)
            self.decoder = SeanetDecoder(config.seanet, config.hop_length)
            width = config.seanet.width
        else:
            self.encoder = SpectralEncoder(config.spectral, config.hop_length)
            self.decoder = SpectralDecoder(config.spectral, config.hop_length)
            width = config.spectral.width
        self.quantizer = ResidualQuantizer(width, config.code_width, config.num_codebooks, config.codebook_size)

    def features(self, wave: Tensor) -> Tensor:
        """wave (B, N) -> features (B, T, D), with T = ceil(N / hop_length); the end is padded with zeros."""
        return self.encoder(F.pad(wave, (0, -wave.shape[-1] % self.hop_length)))

    @torch.no_grad()
    def encode(self, wave: Tensor, lengths: Tensor | None = None, num_codebooks: int | None = None) -> Tensor:
        """Code a wave.

        Args:
            wave: (B, N) mono float32 at `sample_rate`.
            lengths: (B,) samples of each row that are sound; the codes of what lies beyond are 0.
            num_codebooks: q, layers to use; all by default.

        Returns:
            codes (B, q, T) int64, T = ceil(N / hop_length).

        Raises:
            SegueError: if the wave is not a finite float (B, N), N >= 1, lengths don't fit it, or q is out of range.
        """
        check_wave(wave, lengths)
        count = self.num_codebooks if num_codebooks is None else num_codebooks
        if not 1 <= count <= self.num_codebooks:
            raise SegueError(f"num_codebooks {count}: this codec has 1 to {self.num_codebooks}")
        if lengths is not None:
            samples = torch.arange(wave.shape[-1], device=wave.device)
            wave = wave * (samples < lengths[:, None])
        codes = self.quantizer.encode(self.features(wave), count)
        if lengths is not None:
            frames = torch.arange(codes.shape[-1], device=wave.device) * self.hop_length
            codes = codes * (frames < lengths[:, None])[:, None]
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Turn codes back into sound.

        Args:
            codes: (B, q, T) indices of the first q layers.

        Returns:
            wave (B, T * hop_length).

        Raises:
            SegueError: if the shape, the dtype, q or an index is out of range.
        """
        if codes.ndim != 3 or codes.dtype not in (torch.int16, torch.int32, torch.int64):
            raise SegueError(f"codes {tuple(codes.shape)} {codes.dtype}: (B, Q, T) integers are wanted")
        if codes.numel() == 0 or codes.shape[1] > self.num_codebooks:
            raise SegueError(f"codes {tuple(codes.shape)}: a row, a frame and 1 to {self.num_codebooks} layers")
        if int(codes.min()) < 0 or int(codes.max()) >= self.codebook_size:
            found = f"{int(codes.min())} to {int(codes.max())}"
            raise SegueError(f"codes {found}: only 0 to {self.codebook_size - 1} exist")
        return self.decoder(self.quantizer.decode(codes.long()))

    def codebooks(self) -> Tensor:
        """The codes' own vectors (Q, codebook_size, code_width): which codes sound alike."""
        return torch.stack([layer.codebook for layer in self.quantizer.layers])  # type: ignore[misc]

    def to_part(self, card: dict[str, Any]) -> Part:
        """The codec as an artifact in half precision."""
        return Part("codec", to_dict(self.config), half(self.state_dict()), card=card)

    @classmethod
    def from_part(cls, part: Part) -> SoundStream:
        """The codec an artifact holds, ready for use.

        Raises:
            SegueError: if config and weights do not fit each other.
        """
        codec = cls(from_dict(CodecConfig, part.config, "codec", complete=True))
        load_weights(codec, part)
        codec.fingerprint = part.fingerprint
        return codec.eval()


def load_weights(module: nn.Module, part: Part) -> None:
    """Put a part's weights into a module.

    Raises:
        SegueError: if a weight is missing, unknown or of another shape.
    """
    try:
        module.load_state_dict(full(part.tensors))
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise SegueError(f"{part.kind} artifact: weights and config do not fit ({first})") from error


def check_wave(wave: Tensor, lengths: Tensor | None) -> None:
    """Refuse what is no wave, and lengths that are not its own.

    Raises:
        SegueError: if it is not a finite floating-point (B, N) with N >= 1, or lengths not (B,) from 1 to N.
    """
    if wave.ndim != 2 or wave.shape[-1] < 1 or wave.shape[0] < 1 or not wave.is_floating_point():
        raise SegueError(f"wave {tuple(wave.shape)} {wave.dtype}: float (B, N) mono is wanted")
    if not torch.isfinite(wave).all():
        raise SegueError("wave: NaN or infinite samples")
    if lengths is None:
        return
    if lengths.shape != wave.shape[:1] or lengths.is_floating_point():
        raise SegueError(f"lengths {tuple(lengths.shape)} {lengths.dtype}: {wave.shape[0]} whole numbers are wanted")
    if bool((lengths < 1).any()) or bool((lengths > wave.shape[1]).any()):
        raise SegueError(f"lengths {lengths.tolist()}: from 1 to the {wave.shape[1]} samples of the wave")
