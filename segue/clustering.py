"""A trained encoder, as something to cluster anew: another block, number or kind of clusters, without training.

batch: wave (B, N), lengths (B,) -> rows (n, D), one for each token frame that is real -> k-means -> artifact. That of a
published encoder holds the centroids and names the encoder; that of one of Segue's own holds both.

Source: AudioLM, arXiv 2209.03143, section 4.2: block and number of clusters are chosen by measurement.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from segue.artifact import Part, artifact_folder, half, load_part
from segue.config import to_disk
from segue.errors import SegueError
from segue.published import is_reference
from segue.semantic.features import STACK, frame_mask
from segue.semantic.kmeans import Clusters
from segue.semantic.pretrained import PretrainedEncoder, is_pretrained, tokenizer_part
from segue.semantic.tokenizer import SemanticTokenizer, TokenizerConfig, token_features


class Clustered(Protocol):
    """What k-means asks of an encoder, and what becomes of its answer.

    Attributes:
        sample_rate: of the sound that it hears, in Hz.
        angular: whether directions alone are clustered.
    """

    sample_rate: int
    angular: bool

    def rows(self, wave: Tensor, lengths: Tensor) -> Tensor:
        """Activations (n, D) of the real frames of a batch, on the CPU."""
        ...

    def part(self, clusters: Clusters, card: dict[str, Any], licence: str) -> Part:
        """The tokenizer as an artifact; `card` tells of the clusters, `licence` is that of the sound."""
        ...


def to_cluster(reference: str, asked: TokenizerConfig, device: str) -> Clustered:
    """The encoder that a reference names.

    Args:
        reference: `hf:NAME@BLOCK` of a published encoder; or an artifact or a run, with `@BLOCK` for another block than
            the one that was clustered. Blocks count from 1.
        asked: number of clusters; of an encoder of Segue's own also `angular` and `centre_frames`.
        device: where to encode.

    Raises:
        SegueError: if there is no such encoder or block, or it can't be read.
    """
    if not is_reference(reference):
        return _Own(reference, asked, device)
    if asked.angular:
        raise SegueError(f"--encoder {reference}: published encoders are clustered as they are; leave angular out")
    return _Published(reference, device)


class _Published:
    """A published encoder, its activations as they are."""

    angular = False

    def __init__(self, reference: str, device: str) -> None:
        self.device, self.encoder = device, PretrainedEncoder(reference).to(device)
        self.sample_rate = self.encoder.sample_rate

    def rows(self, wave: Tensor, lengths: Tensor) -> Tensor:
        own = [row[:length].to(self.device) for row, length in zip(wave, lengths.tolist(), strict=True)]
        return torch.cat([self.encoder.activations(row)[-1].cpu() for row in own])

    def part(self, clusters: Clusters, card: dict[str, Any], licence: str) -> Part:
        name = self.encoder.reference
        told = {"encoder": name, "licence": f"centroids: {licence}; encoder: see the page of {name}"}
        return tokenizer_part(self.encoder, clusters, card | told)


class _Own:
    """The encoder of a semantic tokenizer of Segue's own."""

    sample_rate = SemanticTokenizer.sample_rate

    def __init__(self, reference: str, asked: TokenizerConfig, device: str) -> None:
        found = re.fullmatch(r"(.+?)(?:@(\d+))?", reference)
        name, block = (found[1], found[2]) if found else (reference, None)
        kept = load_part(artifact_folder(Path(name)), "semantic")
        if is_pretrained(kept):
            raise SegueError(f"--encoder {name}: its encoder is a published one; name that, hf:NAME@BLOCK")
        self.tokenizer, self.kept, self.device = SemanticTokenizer.from_part(kept).to(device), kept, device
        config = self.tokenizer.config
        layer = config.layer if block is None else int(block) - 1
        if not 0 <= layer <= config.layer:  # an artifact holds no blocks above
            raise SegueError(f"--encoder {reference}: block {block} is asked for, it has 1 to {config.layer + 1}")
        self.config = replace(
            config, layer=layer, vocab_size=asked.vocab_size, angular=asked.angular, centre_frames=asked.centre_frames
        )
        self.angular = asked.angular

    @torch.no_grad()
    def rows(self, wave: Tensor, lengths: Tensor) -> Tensor:
        wave, lengths, config = wave.to(self.device), lengths.to(self.device), self.config
        log_mel = self.tokenizer.features(wave, lengths)
        valid = frame_mask(lengths, log_mel.shape[1] // STACK)
        return token_features(self.tokenizer.encoder, log_mel, valid, config.layer, config.centre_frames)[valid].cpu()

    def part(self, clusters: Clusters, card: dict[str, Any], licence: str) -> Part:
        above = tuple(f"encoder.blocks.{n}." for n in range(self.config.layer + 1, self.tokenizer.config.layer + 1))
        tensors = {name: value for name, value in self.kept.tensors.items() if not name.startswith(above)}
        tensors |= {"mean": clusters.mean, "std": clusters.std, "centroids": clusters.centroids}
        trained = self.kept.card
        licences = dict.fromkeys(str(one) for one in (trained.get("licence", ""), licence) if one)
        told = {**trained, "licence": "; ".join(licences), "clusters": card, "encoder_of": self.kept.fingerprint}
        return Part(self.kept.kind, to_disk(self.config), half(tensors), card=told)
