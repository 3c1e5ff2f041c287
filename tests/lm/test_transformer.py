"""The transformer, cached and not, alone and in a batch."""

from __future__ import annotations

import pytest
import torch

from segue.artifact import load_part, save_part
from segue.errors import SegueError
from segue.lm.cache import CachedDecoder
from segue.lm.model import StageModel
from segue.lm.sequence import Layout, pad
from segue.lm.stage import coarse_stage, semantic_stage
from segue.lm.transformer import Transformer, TransformerConfig


def tiny(**changes) -> TransformerConfig:
    size = {"width": 32, "depth": 2, "heads": 4, "feedforward": 48, "embedding_width": 16}
    return TransformerConfig(**{**size, **changes})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uneven(transformer: Transformer) -> Transformer:
    """Gains away from 1, so that a norm left out or folded twice is seen."""
    for name, parameter in transformer.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5, generator=seeded(5))
    return transformer.eval()


@pytest.mark.parametrize("kv_heads", [None, 2, 1])
@pytest.mark.parametrize("batch", [1, 3])
@torch.inference_mode()
def test_cached_logits_are_uncached_logits(kv_heads, batch):
    model = uneven(Transformer(50, tiny(kv_heads=kv_heads), seeded()))
    tokens = torch.randint(0, 50, (batch, 12), generator=seeded(1))
    positions = torch.arange(12)[None] * 0.25
    expected = model.logits(model(tokens, positions), 10, 20)
    decoder = CachedDecoder(model, batch, 12)
    for _ in range(2):
        state = decoder.prefill(tokens[:, :5], positions)
        for place in range(5, 13):
            assert torch.allclose(decoder.logits(state, 10, 20), expected[:, place - 1], atol=1e-4)
            if place < 12:
                state = decoder.step(tokens[:, place])


@torch.inference_mode()
def test_bfloat16_decodes_too():
    model = uneven(Transformer(50, tiny(kv_heads=2), seeded()))
    tokens = torch.randint(0, 50, (1, 8), generator=seeded(1))
    positions = torch.arange(8)[None] * 0.25
    expected = model.logits(model(tokens, positions), 0, 50)[:, -1]
    model.bfloat16()
    assert model.logits(model(tokens, positions), 0, 50)[:, -1].float().sub(expected).abs().max() < 0.05
    decoder = CachedDecoder(model, 1, 8)
    decoder.prefill(tokens[:, :6], positions)
    for place in (6, 7):
        state = decoder.step(tokens[:, place])
    assert decoder.logits(state, 0, 50).float().sub(expected).abs().max() < 0.05


@torch.inference_mode()
def test_padding_on_the_left_changes_nothing():
    model = uneven(Transformer(50, tiny(positions="index"), seeded()))
    tokens = torch.randint(0, 50, (1, 9), generator=seeded(1))
    positions = torch.arange(9)[None].float()
    expected = model.logits(model(tokens, positions), 0, 50)
    padded = torch.nn.functional.pad(tokens, (4, 0))
    shifted = torch.nn.functional.pad(positions, (4, 0))
    decoder = CachedDecoder(model, 1, 13)
    state = decoder.prefill(padded[:, :9], shifted, (torch.arange(9) >= 4)[None])
    for place in range(5, 9):
        assert torch.allclose(decoder.logits(state, 0, 50), expected[:, place - 1], atol=1e-4)
        state = decoder.step(tokens[:, place])
    assert torch.allclose(decoder.logits(state, 0, 50), expected[:, 8], atol=1e-4)


def test_a_batch_trains_as_its_rows_do():
    model = StageModel(coarse_stage(6, 2, 8), tiny(), seeded()).eval()
    rows = [
        model.layout.train([torch.randint(0, 6, (1, n), generator=seeded(n))], torch.ones(2, 2 * n).long(), n == 3)
        for n in (2, 3)
    ]
    sums, counts = model.slot_losses(pad(rows))
    alone = [model.slot_losses(row) for row in rows]
    assert torch.allclose(sums, alone[0][0] + alone[1][0], atol=1e-4)
    assert counts.tolist() == [11, 10]


def test_only_the_past_is_seen_and_time_shifts_cancel():
    model = Transformer(50, tiny(), seeded()).eval()
    tokens = torch.randint(0, 50, (1, 8), generator=seeded(1))
    positions = torch.arange(8)[None] * 0.5
    hidden = model(tokens, positions)
    changed = tokens.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 50
    other = model(changed, positions)
    assert torch.allclose(hidden[:, :5], other[:, :5], atol=1e-5)
    assert not torch.allclose(hidden[:, 5:], other[:, 5:], atol=1e-3)
    assert torch.allclose(hidden, model(tokens, positions + 7), atol=1e-4)
    assert not torch.allclose(hidden, model(tokens, positions * 2), atol=1e-3)


def test_dropout_comes_from_the_generator():
    model = StageModel(semantic_stage(6), tiny(dropout=0.3), seeded())
    batch = Layout(model.stage).train([], torch.ones(1, 9).long(), True)
    first, again, other = (model.slot_losses(batch, seeded(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(model.slot_losses(batch)[0], model.slot_losses(batch)[0])


def test_a_model_survives_its_artifact(tmp_path):
    model = StageModel(coarse_stage(6, 2, 8), tiny(kv_heads=1), seeded()).eval()
    save_part(model.to_part({"semantic": "a", "codec": "b"}, {"hours": 1}), tmp_path / "coarse")
    again = StageModel.from_part(load_part(tmp_path / "coarse", "stage"))
    assert again.requires == {"semantic": "a", "codec": "b"} and again.card == {"hours": 1}
    assert again.stage == model.stage
    batch = model.layout.train([torch.zeros(1, 2).long()], torch.ones(2, 4).long(), True)
    assert torch.allclose(model.slot_losses(batch)[0], again.slot_losses(batch)[0], rtol=1e-2)
    part = model.to_part({}, {})
    del part.tensors["table"]
    with pytest.raises(SegueError, match="don't fit"):
        StageModel.from_part(part)


def test_impossible_sizes_are_refused():
    for wrong in ({"width": 33}, {"kv_heads": 3}, {"dropout": 1.0}, {"depth": 0}):
        with pytest.raises(SegueError):
            tiny(**wrong)
