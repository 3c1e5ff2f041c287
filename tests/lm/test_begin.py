"""Beginning with trained weights: blocks are taken over, rows of tokens only where their tokenizer is the same."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from segue.errors import SegueError
from segue.lm.begin import Beginning, begin_from
from segue.lm.model import StageModel
from segue.lm.parallel import ParallelModel
from segue.lm.stage import acoustic_stage, coarse_stage, semantic_stage

SAME = {"semantic": "s1", "codec": "c1"}


def models(kind: str) -> tuple[StageModel | ParallelModel, StageModel | ParallelModel]:
    """A model and another one of the same sizes with other weights."""
    if kind == "parallel":
        stage = acoustic_stage(tiny.VOCAB, 12, tiny.CODES, crop_seconds=1.0)
        return ParallelModel(stage, tiny.PARALLEL, tiny.rng(1)), ParallelModel(stage, tiny.PARALLEL, tiny.rng(2))
    stage = coarse_stage(tiny.VOCAB, 4, tiny.CODES, crop_seconds=1.0)
    return StageModel(stage, tiny.TRANSFORMER, tiny.rng(1)), StageModel(stage, tiny.TRANSFORMER, tiny.rng(2))


@pytest.mark.parametrize("kind", ["coarse", "parallel"])
@pytest.mark.parametrize("new", [[], ["codec"], ["semantic"], ["codec", "semantic"]])
def test_rows_of_new_tokens_stay_fresh(kind, new):
    trained, fresh = models(kind)
    before = {name: weight.detach().clone() for name, weight in fresh.named_parameters()}
    part = trained.to_part(SAME, {})
    told = begin_from(fresh, Beginning(part), SAME | {role: "other" for role in new})
    assert told == {"begun_from": part.fingerprint} | ({"new_tokens_of": new} if new else {})
    taken, kept = 0, 0
    for name, weight in fresh.named_parameters():
        there = dict(trained.named_parameters())[name].half().float()
        same, own = weight.eq(there), weight.eq(before[name])
        assert bool((same | own).all())
        if "table" in name or name == "bias":
            taken, kept = taken + int((same & ~own).sum()), kept + int((own & ~same).sum())
        else:
            assert bool(same.all())
    assert (kept > 0) == bool(new) and (taken > 0 or len(new) == 2)


@pytest.mark.parametrize("kind", ["coarse", "parallel"])
def test_the_same_tokenizers_give_the_same_model(kind):
    trained, fresh = models(kind)
    begin_from(fresh, Beginning(trained.to_part(SAME, {})), SAME)
    assert fresh.to_part(SAME, {}).fingerprint == trained.to_part(SAME, {}).fingerprint


@pytest.mark.parametrize("kind", ["coarse", "parallel"])
def test_tokens_that_are_nearly_the_same_can_be_kept(kind):
    trained, fresh = models(kind)
    part = trained.to_part(SAME, {})
    told = begin_from(fresh, Beginning(part, keep_tokens=True), SAME | {"codec": "c2"})
    assert told == {"begun_from": part.fingerprint, "other_tokens_of": ["codec"]}
    assert fresh.to_part(SAME, {}).fingerprint == part.fingerprint


def test_a_stage_without_codes_does_not_mind_another_codec():
    stage = semantic_stage(tiny.VOCAB, crop_seconds=1.0)
    trained, fresh = (StageModel(stage, tiny.TRANSFORMER, tiny.rng(seed)) for seed in (1, 2))
    part = trained.to_part(SAME, {})
    assert begin_from(fresh, Beginning(part), SAME | {"codec": "c2"}) == {"begun_from": part.fingerprint}
    assert fresh.to_part(SAME, {}).fingerprint == part.fingerprint


def test_other_sizes_are_refused():
    trained, fresh = models("coarse")
    with pytest.raises(SegueError, match="--init: that coarse stage has other sizes than the coarse stage asked for"):
        config = dataclasses.replace(trained.config, width=2 * trained.config.width)
        begin_from(StageModel(fresh.stage, config, torch.Generator()), Beginning(trained.to_part(SAME, {})), SAME)
    with pytest.raises(SegueError, match="describes no parallel decoder"):
        begin_from(models("parallel")[0], Beginning(trained.to_part(SAME, {})), SAME)
