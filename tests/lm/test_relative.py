"""T5's relative positions, the ReLU feed-forward, and the recipe that has both."""

from __future__ import annotations

import pytest
import torch

from segue.config import from_dict, to_disk
from segue.errors import SegueError
from segue.lm.relative import RelativeBias, buckets
from segue.lm.transformer import Transformer, TransformerConfig
from segue.recipes import paper

CONFIG = TransformerConfig(
    width=32, depth=2, heads=4, feedforward=48, embedding_width=16, positions="index", encoding="t5", activation="relu"
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_buckets_are_those_of_t5():
    found = buckets(torch.tensor([0, 1, 15, 16, 18, 19, 20, 112, 113, 127, 128, 5000])).tolist()
    assert found == [0, 1, 15, 16, 16, 17, 17, 30, 31, 31, 31, 31]


def test_buckets_are_those_of_transformers():
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    distances = torch.arange(600)
    theirs = t5.T5Attention._relative_position_bucket(-distances, bidirectional=False, num_buckets=32, max_distance=128)
    assert torch.equal(buckets(distances), theirs)


def test_the_bias_of_a_pair_is_that_of_its_distance():
    bias = RelativeBias(2)
    bias.weight.data.normal_(generator=seeded())
    pairs, distances = bias(40), bias.by_distance(40)
    for query, key in ((0, 0), (7, 3), (39, 0), (39, 38)):
        assert torch.equal(pairs[:, query, key], distances[:, query - key])


def test_only_the_past_and_its_order_are_seen():
    model = Transformer(50, CONFIG, seeded()).eval()
    model.relative.weight.data.normal_(generator=seeded(2))
    tokens = torch.randint(0, 50, (1, 8), generator=seeded(1))
    positions = torch.arange(8)[None].float()
    hidden = model(tokens, positions)
    changed = tokens.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 50
    assert torch.allclose(hidden[:, :5], model(changed, positions)[:, :5], atol=1e-6)
    assert torch.equal(hidden, model(tokens, positions * 3))
    swapped = tokens[:, [1, 0, *range(2, 8)]]
    assert not torch.allclose(hidden[:, 2:], model(swapped, positions)[:, 2:], atol=1e-3)


def test_every_head_learns_a_bias_and_dropout_comes_from_the_generator():
    model = Transformer(50, TransformerConfig(**{**vars(CONFIG), "dropout": 0.2}), seeded())
    tokens = torch.randint(0, 50, (2, 20), generator=seeded(1))
    positions = torch.arange(20)[None].float()
    model(tokens, positions, rng=seeded(3)).square().sum().backward()
    assert (model.relative.weight.grad[:, :16].abs() > 0).all() and (model.relative.weight.grad[:, 18:] == 0).all()
    assert torch.equal(model(tokens, positions, rng=seeded(3)), model(tokens, positions, rng=seeded(3)))
    assert not torch.equal(model(tokens, positions, rng=seeded(3)), model(tokens, positions, rng=seeded(4)))


def test_relative_positions_count_tokens():
    with pytest.raises(SegueError, match="set positions to index"):
        TransformerConfig(encoding="t5")


def test_the_papers_recipe():
    recipe = paper()
    for stage, crop in ((recipe.semantic_stage, 30), (recipe.coarse_stage, 10), (recipe.fine_stage, 3)):
        model = stage.model
        assert (model.depth, model.heads, model.width, model.feedforward, model.dropout) == (12, 16, 1024, 4096, 0.1)
        assert (model.encoding, model.activation, model.num_kv_heads) == ("t5", "relu", 16)
        assert stage.train.crop_seconds == crop
    assert recipe.semantic_stage.deduplicate_semantic and recipe.coarse_stage.deduplicate_semantic
    assert recipe.fine_stage.prefix == ("coarse",)


def test_older_files_mean_rotary_positions_and_swiglu():
    written = to_disk(TransformerConfig())
    assert not {"encoding", "activation"} & written.keys()
    assert from_dict(TransformerConfig, written, complete=True) == TransformerConfig()
    assert from_dict(TransformerConfig, to_disk(CONFIG), complete=True) == CONFIG
