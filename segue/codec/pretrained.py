"""Published codecs behind the codec seam: EnCodec, DAC and Mimi, as transformers has them.

wave (B, N) -> codes (B, q, T), T = ceil(N / hop_length) -> wave (B, T * hop_length), all at the model's own rate.

A codec is named by a reference, such as `hf:facebook/encodec_24khz@8` (see segue.published).

Source: EnCodec (arXiv 2210.13438), DAC (arXiv 2306.06546), Mimi (arXiv 2410.00037).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segue.artifact import Part, read_json
from segue.codec.seam import check_codes, checked_count
from segue.errors import SegueError
from segue.published import CONFIG, Reference, make_config, make_model, read_model
from segue.waves import check_wave, pieces

KEY = "pretrained"
CHUNK_SECONDS = 30.0
CONTEXT_SECONDS = 5.0
_MONO = "hf:facebook/encodec_24khz"


@dataclass(frozen=True)
class _Family:
    """One kind of model: where transformers keeps what the seam asks for.

    Attributes:
        name: of its classes, NameConfig and NameModel.
        hop_length: config -> samples a frame.
        num_codebooks: config -> Q.
        encode: model, wave (1, N) of whole frames -> codes (1, Q, T).
        decode: model, codes (B, q, T) -> wave (B, about T * hop_length).
        vectors: model -> the codes' vectors, (size, W) a codebook.
    """

    name: str
    hop_length: Callable[[Any], int]
    num_codebooks: Callable[[Any], int]
    encode: Callable[[Any, Tensor], Tensor]
    decode: Callable[[Any, Tensor], Tensor]
    vectors: Callable[[Any], list[Tensor]]


def _encodec_codes(model: Any, wave: Tensor) -> Tensor:
    """At the greatest bandwidth, which uses every codebook: the first q are the same at a smaller one."""
    return model.encode(wave[:, None], bandwidth=model.config.target_bandwidths[-1]).audio_codes[0]


def _mimi_vectors(model: Any) -> list[Tensor]:
    split = model.quantizer
    halves = (split.semantic_residual_vector_quantizer, split.acoustic_residual_vector_quantizer)
    return [layer.codebook.embed for half in halves for layer in half.layers]


_FAMILIES = {
    "encodec": _Family(
        "Encodec",
        hop_length=lambda config: math.prod(config.upsampling_ratios),
        num_codebooks=lambda config: config.num_quantizers,
        encode=_encodec_codes,
        decode=lambda model, codes: model.decode(codes[None], [None]).audio_values[:, 0],
        vectors=lambda model: [layer.codebook.embed for layer in model.quantizer.layers],
    ),
    "dac": _Family(
        "Dac",
        hop_length=lambda config: math.prod(config.downsampling_ratios),
        num_codebooks=lambda config: config.n_codebooks,
        encode=lambda model, wave: model.encode(wave[:, None]).audio_codes,
        decode=lambda model, codes: model.decode(audio_codes=codes).audio_values,
        vectors=lambda model: [layer.codebook.weight for layer in model.quantizer.quantizers],
    ),
    "mimi": _Family(
        "Mimi",
        hop_length=lambda config: config.frame_size,
        num_codebooks=lambda config: config.num_quantizers,
        encode=lambda model, wave: model.encode(wave[:, None]).audio_codes,
        decode=lambda model, codes: model.decode(codes).audio_values[:, 0],
        vectors=_mimi_vectors,
    ),
}


def read_part(reference: str) -> Part:
    """A published codec as a part: config and weights as they are on disk, so that its fingerprint is theirs.

    Args:
        reference: `hf:NAME` or `hf:FOLDER`, with `@COUNT` for fewer codebooks.

    Raises:
        SegueError: if transformers is not installed, the model can't be found, fetched or read, is none of EnCodec, DAC
            and Mimi, is not mono, or has fewer codebooks.
    """
    named = Reference.parse(reference)
    values = read_json(named.file(CONFIG), "published codec")
    kind = values.get("model_type")
    if kind not in _FAMILIES:
        raise SegueError(f"{reference}: a model of type {kind!r}; of published codecs {', '.join(_FAMILIES)} are known")
    config = make_config(_FAMILIES[kind].name, values, reference)
    if getattr(config, "audio_channels", 1) != 1 or getattr(config, "normalize", False):
        raise SegueError(f"{reference}: a model of stereo or normalised sound; take a mono one like {_MONO}")
    if getattr(config, "chunk_length_s", None) is not None:
        raise SegueError(f"{reference}: a model that codes overlapping chunks of sound; take one like {_MONO}")
    most = _FAMILIES[kind].num_codebooks(config)
    count = most if named.number is None else named.number
    if not 1 <= count <= most:
        raise SegueError(f"{reference}: {count} codebooks are asked for, this model has 1 to {most}")
    kept, tensors = read_model(named, "published codec")
    card = {"reference": str(named), "licence": "" if named.folder else f"see the page of {named.place}"}
    return Part("codec", {KEY: kept, "num_codebooks": count}, tensors, card=card)


class PretrainedCodec(nn.Module):
    """A published codec. Rows are coded one by one, each cut at its own end and filled up to whole frames with zeros:
    these models look ahead or fill up the end in ways of their own, and so a row can't depend on what it is padded
    to. A row beyond 30 s is coded in pieces of 30 s that see 5 s of their neighbours, so that memory is bounded.

    Args:
        model: of transformers, with its weights.
        part: what `model` was made of.

    Attributes:
        sample_rate: the model's own, in Hz.
        hop_length: samples a frame.
        frame_rate: frames a second, in Hz.
        num_codebooks: Q, those that are kept.
        codebook_size: codes a codebook.
        fingerprint: of config, weights and Q.
        codes_fingerprint: the same.
        reference: what it was loaded by.
        chunk_frames: frames a piece.
        context_frames: frames that a piece sees of its neighbours, on either side.
    """

    def __init__(self, model: nn.Module, part: Part) -> None:
        super().__init__()
        config: Any = model.config
        self._family = _FAMILIES[config.model_type]
        self.model = model
        self.sample_rate: int = config.sampling_rate
        self.hop_length: int = self._family.hop_length(config)
        self.frame_rate = self.sample_rate / self.hop_length
        self.num_codebooks: int = part.config["num_codebooks"]
        self.codebook_size: int = config.codebook_size
        self.fingerprint = self.codes_fingerprint = part.fingerprint
        self.reference: str = part.card.get("reference", "")
        self.chunk_frames = math.ceil(CHUNK_SECONDS * self.frame_rate)
        self.context_frames = math.ceil(CONTEXT_SECONDS * self.frame_rate)

    @torch.no_grad()
    def encode(
        self, wave: Tensor, lengths: Tensor | None = None, num_codebooks: int | None = None, candidates: int = 1
    ) -> Tensor:
        """Code a wave.

        Args:
            wave: (B, N) mono float32 at `sample_rate`.
            lengths: (B,) samples of each row that are sound; the codes of what lies beyond are 0.
            num_codebooks: q, layers to use; all by default.
            candidates: changes nothing: these models choose their codes as they were published to.

        Returns:
            codes (B, q, T) int64, T = ceil(N / hop_length).

        Raises:
            SegueError: if the wave is not a finite float (B, N), N >= 1, lengths don't fit it, or q is out of range.
        """
        check_wave(wave, lengths)
        count = checked_count(self, num_codebooks, candidates)
        rows, samples = wave.shape
        codes = torch.zeros(rows, count, -(-samples // self.hop_length), dtype=torch.int64, device=wave.device)
        for row, length in enumerate([samples] * rows if lengths is None else lengths.tolist()):
            own = F.pad(wave[row : row + 1, :length].float(), (0, -length % self.hop_length))
            for first, last, start, stop in pieces(
                own.shape[1] // self.hop_length, self.chunk_frames, self.context_frames
            ):
                piece = own[:, start * self.hop_length : stop * self.hop_length]
                coded = self._family.encode(self.model, piece)[0]
                assert coded.shape[1] == stop - start, (tuple(coded.shape), start, stop)
                codes[row, :, first:last] = coded[:count, first - start : last - start]
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Turn codes back into sound.

        Args:
            codes: (B, q, T) indices of the first q layers.

        Returns:
            wave (B, T * hop_length); where a model gives some samples less, zeros fill the end.

        Raises:
            SegueError: if the shape, the dtype, q or an index is out of range.
        """
        check_codes(codes, self.num_codebooks, self.codebook_size)
        hop, waves = self.hop_length, []
        for first, last, start, stop in pieces(codes.shape[2], self.chunk_frames, self.context_frames):
            made = self._family.decode(self.model, codes[..., start:stop].long())
            made = F.pad(made, (0, (stop - start) * hop - made.shape[1]))
            waves.append(made[:, (first - start) * hop : (last - start) * hop])
        return torch.cat(waves, dim=1)

    def codebooks(self) -> Tensor:
        """The codes' own vectors (Q, codebook_size, W), as the model looks them up."""
        return torch.stack(self._family.vectors(self.model)[: self.num_codebooks]).detach().clone()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PretrainedCodec:
        """To another device, and with it what Mimi has worked out from its weights and keeps beside them."""
        for module in self.model.modules():
            if getattr(module, "_embed", None) is not None:
                module._embed = None  # type: ignore[assignment]
        return super()._apply(fn, recurse)

    @classmethod
    def from_part(cls, part: Part) -> PretrainedCodec:
        """The codec of a part that `read_part` gave, ready for use: float32, no gradients.

        Raises:
            SegueError: if transformers is not installed, or config and weights do not fit each other.
        """
        values, name = part.config[KEY], str(part.card.get("reference", "codec"))
        family = _FAMILIES[values["model_type"]].name
        return cls(make_model(family, make_config(family, values, name), part.tensors, name), part).eval()
