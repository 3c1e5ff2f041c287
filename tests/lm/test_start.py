"""Token tables that start from the codec's codebooks: alike codes are alike, everything else is as it was."""

from __future__ import annotations

import tiny
import torch

from segue.data.store import load_codebooks, save_codebooks
from segue.lm.model import StageModel
from segue.lm.stage import fine_stage
from segue.lm.transformer import TransformerConfig


def test_codes_that_sound_alike_start_alike() -> None:
    stage = fine_stage(vocab_size=20, num_codebooks=6, num_coarse=2, codebook_size=32, crop_seconds=1.0)
    config = TransformerConfig(width=32, depth=1, heads=2, feedforward=32, embedding_width=16)
    model = StageModel(stage, config, tiny.rng(0))
    before = model.transformer.table.detach().clone()
    spread = torch.tensor([3.0, 2.0, 1.0, 1.0, 1.0, 0.5, 0.01, 0.0])  # axes that say little stay small
    codebooks = torch.randn(6, 32, 8, generator=tiny.rng(1)) * 0.01 * spread + 5.0
    model.start_from(codebooks, tiny.rng(2))
    table = model.transformer.table.detach()

    semantic, coarse, fine = stage.streams
    for stream in (coarse, fine):
        for index, first in enumerate(model.layout.offsets(stream)):
            rows = table[first : first + 32]
            vectors = codebooks[stream.first_codebook + index]
            centred = vectors - vectors.mean(0)
            scaled = centred / centred.square().sum(1).mean().sqrt()
            assert torch.allclose(torch.cdist(rows, rows), torch.cdist(scaled, scaled), atol=1e-3)
            assert 0.8 < float(rows.norm(dim=1).square().mean()) < 1.2
    kept = model.layout.offsets(semantic)[0]
    assert torch.equal(table[kept : kept + 20], before[kept : kept + 20])
    assert torch.equal(table[model.layout.end], before[model.layout.end])


def test_the_store_keeps_codebooks(tmp_path) -> None:
    assert load_codebooks(tmp_path) is None
    codebooks = tiny.make_codec().codebooks()
    save_codebooks(tmp_path, codebooks)
    assert torch.equal(load_codebooks(tmp_path), codebooks)
