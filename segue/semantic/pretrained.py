"""Published encoders behind the semantic seam: HuBERT, WavLM, wav2vec 2.0, w2v-BERT 2.0, MERT, and our k-means on top.

wave (B, N) at the model's own rate -> output (T, D) of one block -> nearest of K centroids: tokens (B, T), T = ceil(N /
hop_length). Frame t is computed from samples centred on those that it stands for, [t hop, (t + 1) hop), so that tokens
stay aligned with a codec's frames: a row is filled up at both ends by half of what a frame sees beyond its hop.

A tokenizer is an artifact that holds the centroids and names the encoder: reference, fingerprint and block, counted
from 1. `segue train semantic --encoder hf:facebook/hubert-base-ls960@9` makes it.

Source: HuBERT (arXiv 2106.07447), WavLM (arXiv 2110.13900), wav2vec 2.0 (arXiv 2006.11477), w2v-BERT 2.0 (arXiv
2312.05187), MERT (arXiv 2306.00107).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segue.artifact import Part, full, half, read_json
from segue.config import from_dict, to_dict
from segue.errors import SegueError
from segue.published import Reference, make_config, make_model, read_model, transformers
from segue.semantic.kmeans import Clusters, nearest
from segue.semantic.tokenizer import PART_KIND, centred
from segue.waves import check_wave, pieces

KEY = "pretrained"
CHUNK_SECONDS = 30.0
CONTEXT_SECONDS = 5.0
_PREPROCESSOR = "preprocessor_config.json"
_FAMILIES = {
    "hubert": "Hubert",
    "wavlm": "WavLM",
    "wav2vec2": "Wav2Vec2",
    "wav2vec2-bert": "Wav2Vec2Bert",
    "mert_model": "Hubert",  # MERT's network is HuBERT's; where its config asks for more it is refused
}
_MEL_HOP, _MEL_WINDOW, _MEL_STACK = 160, 400, 2  # of w2v-BERT 2.0's log-mel


@dataclass(frozen=True)
class PretrainedConfig:
    """All that tokens depend on besides the encoder's files and the centroids.

    Attributes:
        reference: of the encoder, without its block.
        encoder_fingerprint: of its config and weights.
        block: whose output is clustered, from 1.
        vocab_size: clusters, K.
        centre_frames: activations are clustered less their mean over so many frames on either side; 0: as they are.
    """

    reference: str
    encoder_fingerprint: str
    block: int
    vocab_size: int
    centre_frames: int = 0


class PretrainedEncoder(nn.Module):
    """A published encoder. Rows are encoded one by one, those beyond 30 s in pieces that see 5 s of their neighbours.

    Args:
        reference: `hf:NAME` or `hf:FOLDER`, with `@BLOCK` to leave out the blocks above that.

    Attributes:
        reference: without the block.
        block: the last one that is run, from 1.
        sample_rate: the model's own, in Hz.
        hop_length: samples a frame.
        frame_rate: frames a second, in Hz.
        fingerprint: of config, preprocessing and weights of the whole model.

    Raises:
        SegueError: if transformers is not installed, or the model can't be found, fetched or read, is of none of these
            kinds, or has fewer blocks.
    """

    def __init__(self, reference: str) -> None:
        super().__init__()
        named = Reference.parse(reference)
        self.reference = str(Reference(named.place))
        values, tensors = read_model(named, "published encoder")
        kind = values.get("model_type")
        if kind not in _FAMILIES:
            known = ", ".join(_FAMILIES)
            raise SegueError(f"{reference}: a model of type {kind!r}; of published encoders {known} are known")
        if values.get("feature_extractor_cqt") or values.get("deepnorm"):
            raise SegueError(f"{reference}: a MERT with constant-Q features or DeepNorm, which is not known here")
        preprocessor = named.find(_PREPROCESSOR)
        told = read_json(preprocessor, "published encoder") if preprocessor else {}
        sound = {key: told[key] for key in ("do_normalize", "sampling_rate") if key in told}
        self.fingerprint = Part("encoder", {KEY: values, "sound": sound}, tensors).fingerprint
        config = make_config(_FAMILIES[kind], values, reference)
        model: Any = make_model(_FAMILIES[kind], config, tensors, reference)
        blocks = len(model.encoder.layers)
        self.block = blocks if named.number is None else named.number
        if not 1 <= self.block <= blocks:
            raise SegueError(f"{reference}: block {self.block} is asked for, this model has 1 to {blocks}")
        model.encoder.layers = model.encoder.layers[: self.block]
        self.model = model
        self.width: int = config.hidden_size
        self.sample_rate: int = int(sound.get("sampling_rate", values.get("sample_rate", 16_000)))
        self._mel = _log_mel(config) if kind == "wav2vec2-bert" else None
        self._normalise = self._mel is None and bool(sound.get("do_normalize", False))
        if self._mel is None:
            self.hop_length, self._sees = math.prod(config.conv_stride), _field(config.conv_kernel, config.conv_stride)
        else:
            self.hop_length = _MEL_HOP * _MEL_STACK
            self._sees = _MEL_WINDOW + _MEL_HOP * (_MEL_STACK - 1)
        self.frame_rate = self.sample_rate / self.hop_length
        self.chunk_frames = math.ceil(CHUNK_SECONDS * self.frame_rate)
        self.context_frames = math.ceil(CONTEXT_SECONDS * self.frame_rate)

    @torch.no_grad()
    def activations(self, wave: Tensor) -> list[Tensor]:
        """The output of each block up to the last one that is run.

        Args:
            wave: (N,) mono at `sample_rate`.

        Returns:
            (T, D) a block, T = ceil(N / hop_length).
        """
        samples = wave.shape[0]
        frames = -(-samples // self.hop_length)
        if self._normalise:
            wave = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
        before = (self._sees - self.hop_length) // 2
        after = (frames - 1) * self.hop_length + self._sees - before - samples
        padded = F.pad(wave, (before, after))[None]
        found: list[list[Tensor]] = [[] for _ in range(self.block)]
        for first, last, start, stop in pieces(frames, self.chunk_frames, self.context_frames):
            piece = padded[:, start * self.hop_length : (stop - 1) * self.hop_length + self._sees]
            for block, output in zip(found, self._outputs(piece), strict=True):
                assert output.shape[0] == stop - start, (tuple(output.shape), start, stop)
                block.append(output[first - start : last - start])
        return [torch.cat(block) for block in found]

    def _outputs(self, piece: Tensor) -> list[Tensor]:
        """Each block's output (T, D): taken where it leaves the block, since what models list differs between them."""
        outputs: list[Tensor] = []

        def keep(module: nn.Module, given: Any, made: Any) -> None:
            outputs.append((made if isinstance(made, Tensor) else made[0])[0])

        model: Any = self.model
        hooks = [block.register_forward_hook(keep) for block in model.encoder.layers]
        try:
            model(piece if self._mel is None else self._mel(piece))
        finally:
            for hook in hooks:
                hook.remove()
        return outputs


class PretrainedTokenizer(nn.Module):
    """A published encoder's block and the centroids that were fitted to it: the semantic seam.

    Args:
        encoder: the encoder, with no block above the one that is clustered.
        part: centroids and what they belong to.

    Raises:
        SegueError: if the centroids were fitted to another encoder, or don't fit the config.
    """

    mean: Tensor
    std: Tensor
    centroids: Tensor

    def __init__(self, encoder: PretrainedEncoder, part: Part) -> None:
        super().__init__()
        self.config = from_dict(PretrainedConfig, part.config[KEY], "semantic", complete=True)
        if encoder.fingerprint != self.config.encoder_fingerprint:
            raise SegueError(
                f"{self.config.reference}: fingerprint {encoder.fingerprint}, the centroids are of "
                f"{self.config.encoder_fingerprint}; fit them again with segue train semantic --encoder"
            )
        shapes = {"mean": (encoder.width,), "std": (encoder.width,)}
        shapes["centroids"] = (self.config.vocab_size, encoder.width)  # type: ignore[assignment]
        if {name: tuple(tensor.shape) for name, tensor in part.tensors.items()} != shapes:
            raise SegueError(f"semantic tokenizer: centroids don't fit {self.config.reference} or the vocabulary")
        self.encoder = encoder
        self.sample_rate, self.hop_length, self.frame_rate = (
            encoder.sample_rate,
            encoder.hop_length,
            encoder.frame_rate,
        )
        self.vocab_size = self.config.vocab_size
        for name, tensor in full(part.tensors).items():
            self.register_buffer(name, tensor)
        self.part = part
        self.fingerprint = part.fingerprint
        self.eval()

    @torch.no_grad()
    def encode(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Semantic tokens of each row, each encoded alone and cut at its own end.

        Args:
            wave: (B, N) mono in [-1, 1] at `sample_rate`.
            lengths: (B,) samples of each row that are real; None if all are.

        Returns:
            tokens (B, T) int64, T = ceil(N / hop_length); frames beyond a row's length are 0.

        Raises:
            SegueError: on a wrong shape or dtype, an empty wave, NaN, or lengths that don't fit.
        """
        check_wave(wave, lengths)
        rows, samples = wave.shape
        tokens = torch.zeros(rows, -(-samples // self.hop_length), dtype=torch.int64, device=wave.device)
        for row, length in enumerate([samples] * rows if lengths is None else lengths.tolist()):
            own = self.tokens_of(self.encoder.activations(wave[row, :length].float())[-1])
            tokens[row, : len(own)] = own
        return tokens

    @property
    def layer_rate(self) -> float:
        """Frames a second of `activations`, in Hz."""
        return self.frame_rate

    def activations(self, wave: Tensor) -> list[Tensor]:
        """The output (T, D) of each block that is run, for a wave (N,)."""
        return self.encoder.activations(wave)

    def tokens_of(self, hidden: Tensor) -> Tensor:
        """Tokens (T,) of the clustered block's output (T, D)."""
        return nearest((local_change(hidden, self.config.centre_frames) - self.mean) / self.std, self.centroids)

    def to_part(self, card: dict[str, Any]) -> Part:
        """As an artifact."""
        return Part(self.part.kind, self.part.config, self.part.tensors, card=card)

    @classmethod
    def from_part(cls, part: Part) -> PretrainedTokenizer:
        """The tokenizer that `tokenizer_part` described; its encoder is read where the reference says.

        Raises:
            SegueError: if the encoder can't be had or is not the one that was clustered.
        """
        told = from_dict(PretrainedConfig, part.config[KEY], "semantic", complete=True)
        return cls(PretrainedEncoder(f"{told.reference}@{told.block}"), part)


def tokenizer_part(encoder: PretrainedEncoder, clusters: Clusters, card: dict[str, Any]) -> Part:
    """The artifact of an encoder's last block and the clusters fitted to it."""
    size = len(clusters.centroids)
    told = PretrainedConfig(encoder.reference, encoder.fingerprint, encoder.block, size)
    tensors = {"mean": clusters.mean, "std": clusters.std, "centroids": clusters.centroids}
    return Part(PART_KIND, {KEY: to_dict(told)}, half(tensors), card=card)


def is_pretrained(part: Part) -> bool:
    """Whether a semantic artifact names a published encoder."""
    return KEY in part.config


def local_change(hidden: Tensor, frames: int) -> Tensor:
    """A row's activations (T, D) less their mean over `frames` to either side."""
    return centred(hidden[None], torch.ones(1, len(hidden), dtype=torch.bool, device=hidden.device), frames)[0]


def _field(kernels: list[int], strides: list[int]) -> int:
    """Samples that one frame sees of a stack of convolutions."""
    seen = 1
    for kernel, stride in reversed(list(zip(kernels, strides, strict=True))):
        seen = (seen - 1) * stride + kernel
    return seen


def _log_mel(config: Any) -> Any:
    """w2v-BERT 2.0's features: two frames of log-mel a token, (1, N) -> (1, T, 160), evened out over the piece."""
    stacked: int = config.feature_projection_input_dim
    bands = stacked // _MEL_STACK
    extract = transformers().SeamlessM4TFeatureExtractor(feature_size=bands, num_mel_bins=bands, stride=_MEL_STACK)

    def features(piece: Tensor) -> Tensor:
        made = extract(piece[0].cpu().numpy(), sampling_rate=16_000, return_tensors="pt", padding=False)
        return made["input_features"].to(piece.device)

    return features
