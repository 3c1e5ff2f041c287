"""A trained encoder, as something to cluster anew: another block, number or kind of clusters, without training.

batch: wave (B, N), lengths (B,) -> hidden (B, T, D) and which of it is real -> axes, k-means -> artifact. That of a
published encoder holds the centroids and names the encoder; that of one of Segue's own holds both.

Source: AudioLM, arXiv 2209.03143, section 4.2: block and number of clusters are chosen by measurement.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from segue.artifact import Part, half
from segue.config import to_disk
from segue.errors import SegueError
from segue.published import is_reference
from segue.semantic.fitting import Hidden, encoded
from segue.semantic.kmeans import Clusters
from segue.semantic.pretrained import PretrainedEncoder, is_pretrained, tokenizer_part
from segue.semantic.tokenizer import SemanticTokenizer, TokenizerConfig
from segue.tokenizers import load_unpacked, semantic_folder


class Clustered(Protocol):
    """What k-means asks of an encoder, and what becomes of its answer.

    Attributes:
        sample_rate: of the sound that it hears, in Hz.
        config: number of clusters and what is clustered.
    """

    sample_rate: int
    config: TokenizerConfig

    def hidden(self, wave: Tensor, lengths: Tensor) -> Hidden:
        """Activations of a batch and which of them are real, on the CPU."""
        ...

    def part(self, axes: Tensor | None, clusters: Clusters, card: dict[str, Any], licence: str) -> Part:
        """The tokenizer as an artifact; `card` tells of the clusters, `licence` is that of the sound."""
        ...


def to_cluster(reference: str, asked: TokenizerConfig, device: str) -> Clustered:
    """The encoder that a reference names.

    Args:
        reference: `hf:NAME@BLOCK` of a published encoder; or `phonetic`, an artifact or a run, with `@BLOCK` for
            another block than the one that was clustered. Blocks count from 1.
        asked: number of clusters; of an encoder of Segue's own also `angular`, `centre_frames`, `interleaved`, `axes`.
        device: where to encode.

    Raises:
        SegueError: if there is no such encoder or block, or it can't be read.
    """
    if not is_reference(reference):
        return _Own(reference, asked, device)
    for name in ("angular", "interleaved", "axes"):
        if getattr(asked, name):
            raise SegueError(f"--encoder {reference}: published encoders are clustered as they are; leave {name} out")
    return _Published(reference, asked, device)


class _Published:
    """A published encoder, its activations as they are."""

    def __init__(self, reference: str, asked: TokenizerConfig, device: str) -> None:
        self.config = replace(asked, centre_frames=0)
        self.device, self.encoder = device, PretrainedEncoder(reference).to(device)
        self.sample_rate = self.encoder.sample_rate

    def hidden(self, wave: Tensor, lengths: Tensor) -> Hidden:
        own = [row[:length].to(self.device) for row, length in zip(wave, lengths.tolist(), strict=True)]
        found = torch.cat([self.encoder.activations(row)[-1].cpu() for row in own])[None]
        return found, torch.ones(found.shape[:2], dtype=torch.bool)

    def part(self, axes: Tensor | None, clusters: Clusters, card: dict[str, Any], licence: str) -> Part:
        name = self.encoder.reference
        told = {"encoder": name, "licence": f"centroids: {licence}; encoder: see the page of {name}"}
        return tokenizer_part(self.encoder, clusters, card | told)


class _Own:
    """The encoder of a semantic tokenizer of Segue's own."""

    sample_rate = SemanticTokenizer.sample_rate

    def __init__(self, reference: str, asked: TokenizerConfig, device: str) -> None:
        found = re.fullmatch(r"(.+?)(?:@(\d+))?", reference)
        name, block = (found[1], found[2]) if found else (reference, None)
        kept = load_unpacked(semantic_folder(name))
        if is_pretrained(kept):
            raise SegueError(f"--encoder {name}: its encoder is a published one; name that, hf:NAME@BLOCK")
        self.tokenizer, self.kept, self.device = SemanticTokenizer.from_part(kept).to(device), kept, device
        config = self.tokenizer.config
        layer = config.layer if block is None else int(block) - 1
        if not 0 <= layer <= config.layer:  # an artifact holds no blocks above
            raise SegueError(f"--encoder {reference}: block {block} is asked for, it has 1 to {config.layer + 1}")
        names = ("vocab_size", "angular", "centre_frames", "interleaved", "axes")
        self.config = replace(config, layer=layer, **{name: getattr(asked, name) for name in names}).checked()

    @torch.no_grad()
    def hidden(self, wave: Tensor, lengths: Tensor) -> Hidden:
        wave, lengths = wave.to(self.device), lengths.to(self.device)
        return encoded(self.tokenizer.features, self.tokenizer.encoder, wave, lengths, self.config)

    def part(self, axes: Tensor | None, clusters: Clusters, card: dict[str, Any], licence: str) -> Part:
        left = tuple(f"encoder.blocks.{n}." for n in range(self.config.layer + 1, self.tokenizer.config.layer + 1))
        tensors = {name: value for name, value in self.kept.tensors.items() if not name.startswith((*left, "axes"))}
        tensors |= {} if axes is None else {"axes": axes}
        tensors |= {"mean": clusters.mean, "std": clusters.std, "centroids": clusters.centroids}
        trained = self.kept.card
        licences = dict.fromkeys(str(one) for one in (trained.get("licence", ""), licence) if one)
        told = {**trained, "licence": "; ".join(licences), "clusters": card, "encoder_of": self.kept.fingerprint}
        return Part(self.kept.kind, to_disk(self.config), half(tensors), card=told)
