"""The parallel acoustic decoder: a bidirectional Conformer over codec frames that fills in all codebooks.

A frame's input is the sum of an embedding of each of its codes, or of "masked" where it is not known, and of the
semantic tokens that sound with it. An output head a codebook reads the Conformer's last hidden vector. Embeddings are
factorised: a narrow table a codebook, which is also the head's, and a matrix that widens it.

Shapes: semantic (B, T_s), codes (B, Q, T) with `codebook_size` for "masked", hidden (B, T, width). T_s and T stand in
the ratio of the stage's clock (segue.lm.stage).

Source: Borsos et al. 2023, SoundStorm (arXiv 2305.09636), sections 3.1 and 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segue.artifact import Part, full, half
from segue.config import from_dict, to_disk
from segue.errors import SegueError
from segue.lm.model import code_table
from segue.lm.stage import Stage
from segue.semantic.conformer import ConformerBlock, surroundings

KIND = "parallel"


@dataclass(frozen=True)
class ParallelConfig:
    """Size of the Conformer.

    Attributes:
        width: of a hidden vector.
        depth: number of blocks.
        heads: attention heads; width / heads must be even.
        feedforward: inner size of a feed-forward module as a multiple of width.
        conv_width: taps of the depthwise convolution, odd.
        attention_frames: how far attention reaches to either side; 0 is without bound.
        dropout: after each module, in training.
        embedding_width: of the token tables.
    """

    width: int = 192
    depth: int = 4
    heads: int = 4
    feedforward: int = 2
    conv_width: int = 5
    attention_frames: int = 0
    dropout: float = 0.0
    embedding_width: int = 64

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "feedforward", "embedding_width"):
            if getattr(self, name) < 1:
                raise SegueError(f"parallel.{name} {getattr(self, name)}: at least 1")
        if self.attention_frames < 0:
            raise SegueError(f"parallel.attention_frames {self.attention_frames}: 0 or more")
        if self.width % (2 * self.heads):
            raise SegueError(f"parallel.width {self.width}: must be an even multiple of heads {self.heads}")
        if self.conv_width < 1 or self.conv_width % 2 == 0:
            raise SegueError(f"parallel.conv_width {self.conv_width}: must be odd")
        if not 0 <= self.dropout < 1:
            raise SegueError(f"parallel.dropout {self.dropout}: must be at least 0 and below 1")


@dataclass(frozen=True)
class FrameBatch:
    """Aligned streams, padded on the right with 0.

    Attributes:
        semantic: (B, T_s) int64; `vocab_size` where a row does without.
        codes: (B, Q, T) int64.
        lengths: (B,) real codec frames.
    """

    semantic: Tensor
    codes: Tensor
    lengths: Tensor


class FrameLayout:
    """A parallel stage's streams as frames.

    Args:
        stage: semantic tokens with their repeats as the prefix, all codebooks as the target.

    Raises:
        SegueError: for a stage that can't be decoded in parallel.
    """

    def __init__(self, stage: Stage) -> None:
        if [stream.name for stream in stage.prefix] != ["semantic"] or stage.deduplicate_semantic:
            raise SegueError(f"{stage.name} stage: parallel decoding needs semantic tokens alone, with their repeats")
        if stage.target.first_codebook != 0:
            raise SegueError(f"{stage.name} stage: parallel decoding begins with the first codebook")
        self.stage = stage
        semantic, target = stage.prefix[0], stage.target
        self.tokens_a_frame = max(1, target.ratio // semantic.ratio)
        self.frames_a_token = max(1, semantic.ratio // target.ratio)

    def train(self, prefix: Sequence[Tensor], target: Tensor, ends: bool) -> FrameBatch:
        """One row: semantic (1, T_s), or T_s = 0 to do without, and codes (Q, T); where a clip ends is not told."""
        semantic, frames = prefix[0][0], target.shape[-1]
        if semantic.shape[0] == 0:
            stream = self.stage.prefix[0]
            semantic = semantic.new_full((stream.frames(frames * self.stage.target.ratio),), stream.size)
        return FrameBatch(semantic[None], target[None], torch.tensor([frames]))

    def pad(self, rows: Sequence[FrameBatch]) -> FrameBatch:
        """Rows as one batch."""
        tokens = max(row.semantic.shape[-1] for row in rows)
        frames = max(row.codes.shape[-1] for row in rows)
        return FrameBatch(
            torch.cat([F.pad(row.semantic, (0, tokens - row.semantic.shape[-1])) for row in rows]),
            torch.cat([F.pad(row.codes, (0, frames - row.codes.shape[-1])) for row in rows]),
            torch.cat([row.lengths for row in rows]),
        )

    def aligned(self, semantic: Tensor, frames: int) -> Tensor:
        """The semantic tokens (B, frames, tokens_a_frame) that sound with each of so many codec frames."""
        ours = semantic.repeat_interleave(self.frames_a_token, dim=1)[:, : frames * self.tokens_a_frame]
        return ours.unflatten(1, (frames, self.tokens_a_frame))


class ParallelModel(nn.Module):
    """p(masked codes of a level | known codes, semantic tokens).

    Args:
        stage: streams and clock.
        config: size of the Conformer.
        rng: source of the first weights; None for torch's own.
    """

    def __init__(self, stage: Stage, config: ParallelConfig, rng: torch.Generator | None = None) -> None:
        super().__init__()
        self.stage, self.config, self.layout = stage, config, FrameLayout(stage)
        self.mask = stage.target.size
        levels, narrow, width = stage.target.num_codebooks, config.embedding_width, config.width
        with torch.random.fork_rng(devices=[], enabled=rng is not None):
            if rng is not None:
                torch.manual_seed(int(torch.randint(2**62, (), generator=rng)))
            self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.depth))
            self.table = nn.Parameter(torch.randn(levels, stage.target.size + 1, narrow) / math.sqrt(narrow))
            self.code_up = nn.Parameter(torch.randn(levels * narrow, width) / math.sqrt(levels))
            self.semantic_table = nn.Parameter(torch.randn(stage.prefix[0].size + 1, narrow) / math.sqrt(narrow))
            self.semantic_up = nn.Parameter(torch.randn(self.layout.tokens_a_frame * narrow, width))
            self.heads = nn.Parameter(torch.randn(levels, width, narrow) * (0.2 / math.sqrt(width)))
        self.bias = nn.Parameter(torch.zeros(levels, stage.target.size))
        self.requires: dict[str, str] = {}
        self.card: dict[str, Any] = {}

    @torch.no_grad()
    def start_from(self, codebooks: Tensor, rng: torch.Generator) -> None:
        """Let codes that sound alike start with embeddings that are alike; see `segue.lm.model.code_table`.

        Args:
            codebooks: (Q, size, W) vectors of the codec's codes.
            rng: source of the rotations.
        """
        for level in range(self.table.shape[0]):
            self.table[level, :-1] = code_table(codebooks[level], self.table.shape[2], rng).to(self.table)

    def forward(self, semantic: Tensor, codes: Tensor, valid: Tensor | None = None) -> Tensor:
        """Hidden vectors (B, T, width).

        Args:
            semantic: (B, T_s) that covers the T frames; `vocab_size` for none.
            codes: (B, Q, T), `codebook_size` where masked.
            valid: (B, T) bool, False where a frame is padding; None where none is.
        """
        levels, size, narrow = self.table.shape
        places = codes.transpose(1, 2) + torch.arange(levels, device=codes.device) * size
        heard = F.embedding(places, self.table.reshape(-1, narrow)).flatten(2) @ self.code_up
        said = F.embedding(self.layout.aligned(semantic, codes.shape[-1]), self.semantic_table).flatten(2)
        hidden = (heard + said @ self.semantic_up).float()
        around = surroundings(hidden, valid, self.config)
        for block in self.blocks:
            hidden = block(hidden, around)
        return hidden

    def logits(self, hidden: Tensor, level: int) -> Tensor:
        """Logits (..., size) of a level's codes from hidden vectors (..., width)."""
        return hidden @ self.heads[level] @ self.table[level, : self.mask].T + self.bias[level]

    def slot_losses(
        self, semantic: Tensor, seen: Tensor, answers: Tensor, asked: Tensor, levels: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of what was asked, by level.

        Args:
            semantic: (B, T_s).
            seen: (B, Q, T), masked.
            answers: (B, T) the codes of the row's level.
            asked: (B, T) bool.
            levels: (B,).
            valid: (B, T) bool.

        Returns:
            sums (Q,) in nats and counts (Q,).
        """
        hidden = self(semantic, seen, valid)
        sums, counts = [], []
        for level in range(self.table.shape[0]):
            chosen = asked & (levels == level)[:, None]
            classes = answers[chosen]
            sums.append(F.cross_entropy(self.logits(hidden[chosen], level).float(), classes, reduction="sum"))
            counts.append(chosen.sum())
        return torch.stack(sums), torch.stack(counts)

    def to_part(self, requires: dict[str, str], card: dict[str, Any]) -> Part:
        """This model as an artifact in half precision; `requires` holds the tokenizers' fingerprints."""
        config = {"stage": to_disk(self.stage), "model": to_disk(self.config)}
        return Part(KIND, config, half(self.state_dict()), requires, card)

    @classmethod
    def from_part(cls, part: Part) -> ParallelModel:
        """The model that `to_part` described, ready for decoding.

        Raises:
            SegueError: if the weights don't fit the config, or the part is no parallel decoder.
        """
        if part.kind != KIND or not {"stage", "model"} <= part.config.keys():
            raise SegueError(f"this {part.kind} artifact describes no parallel decoder; choose another folder")
        stage = from_dict(Stage, part.config["stage"], "stage", complete=True)
        config = from_dict(ParallelConfig, part.config["model"], "model", complete=True)
        model = cls(stage, config, torch.Generator())
        try:
            model.load_state_dict(full(part.tensors))
        except RuntimeError as error:
            raise SegueError("parallel decoder: weights don't fit the config; make the artifact again") from error
        model.requires, model.card = dict(part.requires), dict(part.card)
        return model.eval()
