"""What eight bits cost the stages that come with Segue, in nats a token of an example, read token by token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import segue
from segue import audio
from segue.data.corpus import encode_aligned
from segue.lm.decoder import make_decoder
from segue.lm.model import StageModel
from segue.lm.native import build
from segue.lm.sequence import TokenBatch

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST_NATS = 0.01
"""Of an example's few hundred tokens; docs/log.md has the cost on held-out data."""


@pytest.fixture(scope="module")
def speech() -> tuple[segue.bundle.Bundle, dict[str, Tensor]]:
    bundle = segue.load("speech")
    wave = audio.read(EXAMPLES / "speech.wav", bundle.sample_rate).wave
    semantic, codes = encode_aligned(wave, bundle.semantic, bundle.codec)
    return bundle, {"semantic": semantic[None], "coarse": codes[:4], "fine": codes[4:]}


def nats(model: StageModel, batch: TokenBatch, engine: str, weights: str) -> float:
    """Mean over the tokens of one sequence that a stage predicts."""
    decoder = make_decoder(model.transformer, 1, batch.tokens.shape[1], engine=engine, weights=weights)
    state = decoder.prefill(batch.tokens[:, :1], batch.positions)
    losses = []
    for place in range(batch.tokens.shape[1]):
        if place:
            state = decoder.step(batch.tokens[:, place])
        slot = int(batch.slots[0, place])
        if slot >= 0:
            losses.append(F.cross_entropy(decoder.logits(state, *model.layout.slot(slot)), batch.classes[:, place]))
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("name", ["semantic", "coarse", "fine"])
@torch.inference_mode()
def test_eight_bits_cost_next_to_nothing(speech, engine, name):
    if engine == "native" and build.library()[0] is None:
        pytest.skip(build.library()[1])
    bundle, streams = speech
    model: StageModel = getattr(bundle.stages, name)
    ticks = min(model.stage.crop_frames, 150)
    cut = [streams[stream.name][:, : stream.frames(ticks)] for stream in model.stage.streams]
    batch = model.layout.train(cut[:-1], cut[-1], ends=False)
    exact, rounded = nats(model, batch, "torch", "float32"), nats(model, batch, engine, "int8")
    assert exact != rounded
    assert rounded - exact < MOST_NATS
