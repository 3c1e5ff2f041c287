"""Everything that a suite compares, computed once a recording: MFCC, the encoder's layers, semantic tokens and codes.

wave (N,) -> mfcc (T100, 13) at 100 Hz; layers (T_l, D) a block; tokens (T_s,); codes (Q, T). Frames of a recording at
any instant are those that cover it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segue.bundle import Bundle
from segue.codec.seam import Codec
from segue.evaluate.phones import Span
from segue.evaluate.recordings import Recording
from segue.semantic.features import MEL_HOP, SAMPLE_RATE, LogMel
from segue.semantic.pretrained import PretrainedTokenizer
from segue.semantic.tokenizer import SemanticTokenizer

Tokenizer = SemanticTokenizer | PretrainedTokenizer
_BANDS, _COEFFICIENTS = 40, 13


@dataclass(frozen=True)
class Encoded:
    """A recording, encoded in every way.

    Attributes:
        recording: it.
        spans: what is said or played in it.
        mfcc: (T100, 13), less their mean over the recording.
        layers: (T_l, D) a block of the encoder, likewise.
        tokens: (T_s,).
        codes: (Q, T).
        semantic_seconds: that the semantic tokenizer worked on it.
        codec_seconds: that the codec did.
    """

    recording: Recording
    spans: list[Span]
    mfcc: Tensor
    layers: list[Tensor]
    tokens: Tensor
    codes: Tensor
    semantic_seconds: float
    codec_seconds: float


@dataclass(frozen=True)
class Representation:
    """One of the things that are compared.

    Attributes:
        name: of it.
        frame_rate: in Hz.
        features: of a recording: (T, D), floating or whole numbers.
    """

    name: str
    frame_rate: float
    features: Callable[[Encoded], Tensor]


def encode(recording: Recording, spans: list[Span], semantic: Tokenizer, codec: Codec) -> Encoded:
    """Encode a recording in every way."""
    wave, codec_wave = recording.wave(semantic.sample_rate), recording.wave(codec.sample_rate)
    began = time.perf_counter()
    tokens = semantic.encode(wave[None])[0]
    between = time.perf_counter()
    codes = codec.encode(codec_wave[None])[0]
    done = time.perf_counter()
    layers = [layer - layer.mean(0) for layer in semantic.activations(wave)]
    return Encoded(
        recording, spans, mfcc(recording.wave(SAMPLE_RATE)), layers, tokens, codes, between - began, done - between
    )


def mfcc(wave: Tensor) -> Tensor:
    """Thirteen cepstral coefficients (T, 13) at 100 Hz of a wave (N,) at 16 kHz, less their mean: the anchor."""
    log_mel = LogMel(_BANDS).raw(wave[None])[0][: -(-len(wave) // MEL_HOP)]
    places = (torch.arange(_BANDS) + 0.5) * torch.pi / _BANDS
    cepstrum = log_mel @ torch.cos(places[:, None] * torch.arange(_COEFFICIENTS))
    return cepstrum - cepstrum.mean(0)


def roles(semantic: Tokenizer, codec: Codec, num_coarse: int) -> list[Representation]:
    """The rows of the table of roles.

    Args:
        semantic: the tokenizer; a token is compared as its centroid.
        codec: the codec; a frame's codes are compared as the code vectors of its codebooks, or as they are where the
            codec has none.
        num_coarse: codebooks of the coarse stage.
    """
    vectors = codec.codebooks()

    def of_codes(count: int) -> Callable[[Encoded], Tensor]:
        def features(encoded: Encoded) -> Tensor:
            codes = encoded.codes[:count]
            if vectors is None:
                return codes.T
            return torch.cat([vectors[q][codes[q]] for q in range(count)], dim=1)

        return features

    rows = [
        Representation("MFCC", SAMPLE_RATE / MEL_HOP, lambda encoded: encoded.mfcc),
        Representation("semantic tokens", semantic.frame_rate, lambda encoded: semantic.centroids[encoded.tokens]),
    ]
    for count in sorted({1, num_coarse, codec.num_codebooks}):
        name = "codes, 1 codebook" if count == 1 else f"codes, {count} codebooks"
        rows.append(Representation(name, codec.frame_rate, of_codes(count)))
    return rows


def sweep(semantic: Tokenizer, count: int) -> list[Representation]:
    """Every layer of the encoder, from 1; and what the last one's places on discriminant axes are, if it has any."""
    names = [f"layer {index + 1}" for index in range(count)]
    if isinstance(semantic, SemanticTokenizer) and semantic.axes is not None:
        names[-1] = f"axes of layer {count - 1}"

    def of_layer(index: int) -> Callable[[Encoded], Tensor]:
        return lambda encoded: encoded.layers[index]

    return [Representation(name, semantic.layer_rate, of_layer(index)) for index, name in enumerate(names)]


def middles(row: Representation, encoded: Sequence[Encoded]) -> Tensor:
    """The frame in the middle of every span of every recording, (n, D)."""
    found = []
    for one in encoded:
        features = row.features(one)
        places = [int((span.start_seconds + span.end_seconds) / 2 * row.frame_rate) for span in one.spans]
        found.append(features[torch.tensor(places, dtype=torch.int64).clamp(max=len(features) - 1)])
    return torch.cat(found)


def segments(row: Representation, encoded: Sequence[Encoded]) -> list[Tensor]:
    """The frames of every span of every recording, (L, D) each, at least one."""
    found = []
    for one in encoded:
        features = row.features(one)
        for span in one.spans:
            first = min(round(span.start_seconds * row.frame_rate), len(features) - 1)
            found.append(features[first : max(first + 1, round(span.end_seconds * row.frame_rate))])
    return found


def frame_labels(one: Encoded, names: Sequence[str], frame_rate: float, frames: int) -> Tensor:
    """What is said or played in the middle of each frame, (T,) by index into `names`; -1 for nothing."""
    labels = torch.full((frames,), -1)
    for span in one.spans:
        first, last = (round(seconds * frame_rate) for seconds in (span.start_seconds, span.end_seconds))
        labels[first:last] = names.index(span.label)
    return labels


def has_bundles_tokens(bundle: Bundle, semantic: Tokenizer) -> bool:
    """Whether the bundle's stages can speak these tokens."""
    return semantic.fingerprint == bundle.semantic.fingerprint
