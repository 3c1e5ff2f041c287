"""Checkpoints of every format there has been go on in today's code as they would have in their own.

`format1/KIND` is a run of three steps, left by the code of its time, and `after.json` the losses of the two steps that
this code went on to make from there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from segue.codec.discriminators import DiscriminatorConfig
from segue.codec.soundstream import CodecConfig
from segue.codec.spectral import SpectralConfig
from segue.config import to_disk
from segue.lm.model import StageModel
from segue.lm.sequence import pad
from segue.lm.stage import coarse_stage
from segue.lm.transformer import TransformerConfig
from segue.semantic.conformer import EncoderConfig
from segue.semantic.objective import ObjectiveConfig
from segue.semantic.tokenizer import TokenizerConfig
from segue.train import loop
from segue.train.codec import CodecObjective, CodecTraining
from segue.train.lm import StageTraining
from segue.train.loop import TrainConfig
from segue.train.semantic import SemanticConfig, SemanticTraining

HERE = Path(__file__).parent
KINDS = ("codec", "semantic", "lm")
CODEC = CodecConfig(
    num_codebooks=2,
    codebook_size=4,
    code_width=2,
    spectral=SpectralConfig(width=4, expansion=1, encoder_depth=1, decoder_depth=1, kernel=3, window=480, hop=160),
)
OBJECTIVE = CodecObjective(
    warm_steps=1,
    adversarial_start_step=2,
    discriminators=DiscriminatorConfig(stft_windows=(64,), stft_channels=2, wave_channels=2),
)
SEMANTIC = SemanticConfig(
    TokenizerConfig(
        EncoderConfig(mel_bands=8, width=8, contrastive_depth=1, masked_depth=1, heads=2, feedforward=1, conv_width=3),
        layer=1,
        vocab_size=4,
    ),
    ObjectiveConfig(entries=4, codebooks=1, codebook_size=4, contrastive_width=4, projection_width=4),
)
ADAMW = {"optimiser": "adamw"}  # format 1 knew no other
LM = TransformerConfig(width=8, depth=1, heads=2, feedforward=8, embedding_width=4)


def config(steps: int) -> TrainConfig:
    return TrainConfig(
        steps=steps, batch_size=2, learning_rate=1e-3, warmup_steps=2, ema_decay=0.9, cooldown_fraction=0
    )


def sounds(k: int, rows: slice = slice(None)):
    """Two gliding tones."""
    time = torch.arange(9600) / 16_000
    pitch = torch.tensor([[110.0 + 7 * k], [175.0 - 5 * k]])
    wave = 0.2 * torch.sin(6.2832 * pitch * time * (1 + time)) + 0.1 * torch.sin(6.2832 * 3.1 * pitch * time)
    return wave[rows], torch.tensor([9600, 8000])[rows]


def codes(layout, k: int, rows: slice = slice(None)):
    """Two sequences."""
    semantic = (torch.arange(5)[None] * (k + 2) + k) % 4
    target = semantic.repeat_interleave(2, 1).expand(2, -1)
    return pad([layout.train([semantic], target, True), layout.train([semantic[:, :3]], target[:, :6], False)][rows])


def make(kind: str):
    """A training and its batches."""
    if kind == "codec":
        return CodecTraining(CODEC, OBJECTIVE, 0.01, 1.0, 0.9, 0), lambda k, rows=slice(None): (
            sounds(k, rows)[0][:, :640],
            torch.tensor([640, 640])[rows],
        )
    if kind == "semantic":
        return SemanticTraining(SEMANTIC, 0, 0.01, 1.0, 0.9), sounds
    model = StageModel(coarse_stage(4, 2, 4), LM, torch.Generator().manual_seed(0))
    training = StageTraining(model, {}, 0.01, 1.0, 0.9, **ADAMW)
    return training, lambda k, rows=slice(None): codes(model.layout, k, rows)


def go_on(kind: str, folder: Path, steps: int) -> list[dict[str, float]]:
    """Losses of the steps from the newest checkpoint on."""
    events: list[loop.Event] = []
    training, batches = make(kind)
    describe = {"kind": kind, "train": to_disk(config(steps))}
    loop.run(training, batches, None, config(steps), folder, describe, events.append)
    return [event.losses for event in events if event.kind == "train"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_format_1_goes_on(kind, tmp_path):
    shutil.copytree(HERE / "format1" / kind, tmp_path / kind)
    kept = json.loads((tmp_path / kind / "step-00000003" / "state.json").read_text())
    assert kept["format_version"] == 1
    expected = json.loads((tmp_path / kind / "after.json").read_text())
    found = go_on(kind, tmp_path / kind, 5)
    assert len(found) == len(expected) == 2
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3 if kind == "codec" else 3e-5)  # a code may fall otherwise
