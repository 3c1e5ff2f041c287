"""A stage's language model: its layout and its transformer, the loss, and the artifact.

Shapes: tokens (B, L), hidden (B, L, width), logits (N, classes of one codebook).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segue.artifact import Part, full, half
from segue.config import from_dict, to_disk
from segue.errors import SegueError
from segue.lm.sequence import Layout, TokenBatch
from segue.lm.stage import Stage
from segue.lm.transformer import Transformer, TransformerConfig


class StageModel(nn.Module):
    """p(target | prefix) for one stage.

    Args:
        stage: which.
        config: size of its transformer.
        rng: source of the first weights; None for torch's own.
    """

    def __init__(self, stage: Stage, config: TransformerConfig, rng: torch.Generator | None = None) -> None:
        super().__init__()
        self.stage = stage
        self.config = config
        self.layout = Layout(stage, config.positions)
        self.transformer = Transformer(self.layout.num_ids, config, rng)
        self.requires: dict[str, str] = {}
        self.card: dict[str, Any] = {}

    @property
    def device(self) -> torch.device:
        """Where it works."""
        return self.transformer.table.device

    @torch.no_grad()
    def start_from(self, codebooks: Tensor, rng: torch.Generator) -> None:
        """Let codes that sound alike start with embeddings that are alike.

        Fresh tables must meet every code many times before they know its neighbours; see `code_table`.

        Args:
            codebooks: (Q, size, W) vectors of the codec's codes.
            rng: source of the rotations.
        """
        table = self.transformer.table
        for stream in self.stage.streams:
            if stream.name == "semantic":
                continue
            for index, first in enumerate(self.layout.offsets(stream)):
                vectors = codebooks[stream.first_codebook + index]
                table[first : first + stream.size] = code_table(vectors, table.shape[1], rng).to(table)

    def slot_losses(self, batch: TokenBatch, rng: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each codebook of the target.

        Args:
            batch: sequences on the model's device.
            rng: source of dropout, on the same device; None leaves it out.

        Returns:
            sums (Q,) in nats and counts (Q,) of predicted tokens.
        """
        hidden = self.transformer(batch.tokens, batch.positions, rng=rng)
        sums, counts = [], []
        for slot in range(self.stage.target.num_codebooks):
            chosen = batch.slots == slot
            classes = batch.classes[chosen]
            logits = self.transformer.logits(hidden[chosen], *self.layout.slot(slot))
            sums.append(F.cross_entropy(logits.float(), classes, reduction="sum"))
            counts.append(torch.tensor(classes.shape[0], device=classes.device))
        return torch.stack(sums), torch.stack(counts)

    def to_part(self, requires: dict[str, str], card: dict[str, Any]) -> Part:
        """This model as an artifact in half precision.

        Args:
            requires: role -> fingerprint of the tokenizers; of those that the stage has no tokens of none is kept.
            card: what it was trained on.
        """
        requires = {role: requires[role] for role in requires if role in self.stage.tokenizers}
        config = {"stage": to_disk(self.stage), "model": to_disk(self.config)}
        return Part("stage", config, half(self.transformer.state_dict()), requires, card)

    @classmethod
    def from_part(cls, part: Part) -> StageModel:
        """The model that `to_part` described, ready for decoding.

        Raises:
            SegueError: if the weights don't fit the config, or the part is no stage.
        """
        if part.kind != "stage" or not {"stage", "model"} <= part.config.keys():
            raise SegueError(f"this {part.kind} artifact describes no stage; choose another folder")
        stage = from_dict(Stage, part.config["stage"], "stage", complete=True)
        model = cls(stage, from_dict(TransformerConfig, part.config["model"], "model", complete=True))
        try:
            model.transformer.load_state_dict(full(part.tensors))
        except RuntimeError as error:
            raise SegueError(f"{stage.name} stage: weights don't fit the config; make the artifact again") from error
        model.requires, model.card = dict(part.requires), dict(part.card)
        return model.eval()


def code_table(vectors: Tensor, width: int, rng: torch.Generator) -> Tensor:
    """Embeddings (size, width) of a codebook (size, W) that keep who is whose neighbour.

    It is centred, turned into as many of its main axes as the table is wide and from there by a random rotation, and
    scaled to the mean square length that random rows have. Axes keep their proportions: plain codes fill some twenty
    of their 64 dimensions, and the rest is noise.
    """
    axes, spread, _ = torch.linalg.svd(vectors - vectors.mean(dim=0), full_matrices=False)
    main = axes[:, :width] * spread[:width]
    main = main * math.sqrt(vectors.shape[0] / max(float(main.square().sum()), 1e-12))
    return main @ torch.linalg.qr(torch.randn(width, main.shape[1], generator=rng))[0].T
