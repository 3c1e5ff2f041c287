"""Contrastive predictive coding: what the encoder hears and when, what it is asked, and that it learns it."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import tiny
import torch
from torch import nn
from torch.func import functional_call

from segue import parts
from segue.artifact import load_part, save_part
from segue.config import override
from segue.errors import SegueError
from segue.recipes import SemanticRecipe
from segue.recipes import tiny as tiny_recipe
from segue.semantic.objective import Objective, ObjectiveConfig
from segue.semantic.predictive import Look, Predictive
from segue.semantic.recurrent import RecurrentConfig, RecurrentEncoder, RecurrentLayer
from segue.semantic.tokenizer import SemanticTokenizer, TokenizerConfig
from segue.train.muon import Muon
from segue.train.semantic import SemanticConfig, SemanticTraining

SIZES = RecurrentConfig(mel_bands=8, width=16, depth=2)


@pytest.fixture
def encoder() -> RecurrentEncoder:
    torch.manual_seed(0)
    return RecurrentEncoder(SIZES)


def heard(encoder: RecurrentEncoder, log_mel: torch.Tensor) -> torch.Tensor:
    return encoder(encoder.subsampling(log_mel))[-1]


def a_few_steps() -> SemanticRecipe:
    recipe = tiny_recipe().semantic
    train = dataclasses.replace(recipe.train, steps=4, batch_size=2, crop_seconds=1.0, warmup_steps=1)
    return dataclasses.replace(recipe, model=tiny.PREDICTIVE, cluster_batches=4, train=train)


@pytest.mark.parametrize("frame", [0, 3, 10])
def test_a_frame_hears_its_own_two_mel_frames_and_all_before_but_none_after(encoder, frame):
    log_mel = torch.randn(1, 24, 8, generator=tiny.rng())
    base = heard(encoder, log_mel)
    assert base.shape == (1, 12, 16)
    for changed in range(24):
        other = log_mel.clone()
        other[0, changed] += 1.0
        moved = not torch.equal(heard(encoder, other)[0, frame], base[0, frame])
        assert moved == (changed <= 2 * frame + 1), changed


def test_layers_are_pytorchs_lstm():
    torch.manual_seed(1)
    ours, theirs = RecurrentLayer(16), nn.LSTM(16, 16, batch_first=True)
    with torch.no_grad():
        for name, value in (("weight_ih_l0", ours.weight), ("weight_hh_l0", ours.recurrent_weight)):
            getattr(theirs, name).copy_(value)
        theirs.bias_ih_l0.copy_(ours.bias)
        theirs.bias_hh_l0.zero_()
    hidden = torch.randn(3, 7, 16, generator=tiny.rng())
    assert torch.allclose(ours(hidden), theirs(hidden)[0], atol=1e-6)


def test_other_weights_can_stand_in_for_its_own(encoder):
    """Validation does that with the averaged ones; an LSTM of PyTorch's would go on with its own, and say nothing."""
    log_mel = torch.randn(1, 8, 8, generator=tiny.rng())
    none = {name: torch.zeros_like(value) for name, value in encoder.named_parameters()}
    made = functional_call(encoder, none, (encoder.subsampling(log_mel),))[-1]
    assert not made.detach().any()


def test_the_loss_is_that_of_the_paper():
    """Against a plain sum over frames, steps ahead and candidates; one row ends early."""
    torch.manual_seed(2)
    predictive = Predictive(8, horizon=3, temperature=0.5)
    targets, contexts = torch.randn(2, 2, 6, 8, generator=tiny.rng())
    valid = torch.arange(6) < torch.tensor([6, 4])[:, None]
    loss, metrics = predictive(targets, contexts, valid)
    asked = predictive.heads(predictive.look(contexts)).view(2, 6, 3, 8).detach()
    expected, right = [], []
    for ahead in (1, 2, 3):
        terms, hits = [], []
        for row, length in enumerate((6, 4)):
            for frame in range(length - ahead):
                question = asked[row, frame, ahead - 1]
                scores = [float(torch.cosine_similarity(question, targets[row, i], dim=0)) / 0.5 for i in range(length)]
                terms.append(math.log(sum(math.exp(score) for score in scores)) - scores[frame + ahead])
                hits.append(scores.index(max(scores)) == frame + ahead)
        expected.append(sum(terms) / len(terms))
        right.append(sum(hits) / len(hits))
    assert loss.item() == pytest.approx(sum(expected) / 3, abs=1e-5)
    assert float(metrics["predictive_accuracy"]) == pytest.approx(sum(right) / 3, abs=1e-6)


def test_a_look_sees_no_future():
    torch.manual_seed(3)
    look, context = Look(16), torch.randn(1, 9, 16, generator=tiny.rng())
    other = context.clone()
    other[0, 5:] += 1.0
    assert torch.allclose(look(context)[0, :5], look(other)[0, :5], atol=1e-6)
    assert not torch.allclose(look(context)[0, 5], look(other)[0, 5], atol=1e-2)


def test_the_past_is_heard_as_another_voice_and_the_targets_as_recorded(encoder):
    torch.manual_seed(4)
    objective = Objective(SIZES, ObjectiveConfig(kind="cpc", horizon=2))
    recorded, perturbed = torch.randn(2, 2, 16, 8, generator=tiny.rng())
    valid = torch.ones(2, 4, dtype=torch.bool)
    loss, _ = objective(encoder, perturbed, valid, tiny.rng(), recorded=recorded)
    expected, _ = objective.predictive(
        encoder.subsampling(recorded), heard(encoder, perturbed), torch.ones(2, 8, dtype=torch.bool)
    )
    assert torch.equal(loss, expected)
    assert not torch.equal(loss, objective(encoder, perturbed, valid, tiny.rng())[0])


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_it_learns_and_goes_on_exactly(optimiser):
    def taught() -> SemanticTraining:
        training = SemanticTraining(tiny.PREDICTIVE, seed=4, optimiser=optimiser)
        training.prepare(tiny.clip_batch)
        return training

    def steps(training: SemanticTraining, first: int, last: int) -> dict[str, float]:
        return [training.step(tiny.clip_batch(k % 8), tiny.rng(k), 5e-3) for k in range(first, last)][-1]

    training = taught()
    before = training.validate(tiny.clip_batch(900), tiny.rng())
    steps(training, 0, 20)
    kept = copy.deepcopy(training.state_dict())
    other = taught()
    other.load_state_dict(kept)
    assert steps(other, 20, 24) == steps(training, 20, 24)
    steps(training, 24, 40)
    after = training.validate(tiny.clip_batch(900), tiny.rng())
    assert {"loss", "predictive", "predictive_accuracy"} <= after.keys()
    assert after["predictive"] < before["predictive"] - 0.1


def test_muon_has_the_matrices_within_and_a_run_keeps_its_optimisers():
    plain, muon = (SemanticTraining(tiny.PREDICTIVE, seed=4, optimiser=name) for name in ("adamw", "muon"))
    assert [type(optimiser) for optimiser in muon.optimisers] == [torch.optim.AdamW, Muon]
    inner = {id(weight) for group in muon.optimisers[1].param_groups for weight in group["params"]}
    names = {name for name, weight in muon.learner.named_parameters() if id(weight) in inner}
    assert {"encoder.blocks.0.recurrent_weight", "objective.predictive.heads.weight"} <= names
    assert not any("subsampling" in name or "norm" in name or "bias" in name for name in names)
    for own, other in ((plain, muon), (muon, plain)):
        with pytest.raises(SegueError, match=r"started with optimiser=.*go on"):
            own.load_state_dict(other.state_dict())


def test_a_crop_of_one_frame_asks_nothing_and_breaks_nothing():
    predictive = Predictive(8, horizon=3, temperature=0.5)
    targets, contexts = torch.randn(2, 2, 4, 8, generator=tiny.rng())
    valid = torch.tensor([[True] * 4, [True, False, False, False]])
    alone, _ = predictive(targets[:1], contexts[:1], valid[:1])
    both, _ = predictive(targets, contexts.requires_grad_(), valid)
    both.backward()
    assert both.item() == pytest.approx(alone.item(), rel=1e-6)
    assert torch.isfinite(contexts.grad).all() and not contexts.grad[1].any()
    assert predictive(targets[:, :1], contexts[:, :1], valid[:, :1])[0].item() == 0.0


def test_tokens_come_back_from_disk_and_a_cut_moves_none(tmp_path):
    tokenizer = tiny.make_semantic(config=tiny.PREDICTIVE)
    save_part(tokenizer.to_part({}), tmp_path / "part")
    again = SemanticTokenizer.from_part(load_part(tmp_path / "part", "semantic"))
    wave = tiny.waves(1, 2.0, seed=9)
    tokens = tokenizer.encode(wave)
    assert torch.equal(again.encode(wave), tokens) and again.fingerprint == tokenizer.fingerprint
    assert (tokenizer.frame_rate, tokenizer.layer_rate) == (25.0, 50.0)
    assert [layer.shape for layer in tokenizer.activations(wave[0])] == [(100, 16)] * 2
    cut = 25
    alone = tokenizer.encode(wave[:, : cut * tokenizer.hop_length])
    assert torch.equal(alone[:, : cut - 1], tokens[:, : cut - 1])  # the last one's window ends 7.5 ms beyond it


def test_a_conformer_can_be_taught_by_it(tmp_path):
    recipe = dataclasses.replace(a_few_steps(), rounds=1, teacher_layer=1)
    data = parts.SoundData((tiny.corpus(tmp_path / "sound", 4, 1.0),))
    pupil = load_part(parts.train_semantic(recipe, data, tmp_path / "run"), "semantic")
    teacher = load_part(tmp_path / "run" / "round-0" / "artifact", "semantic")
    assert teacher.config["recurrent"]["width"] == 16 and "recurrent" not in pupil.config
    assert pupil.card["teacher"] == teacher.fingerprint


def test_weights_are_of_the_training_folders_and_one_held_out_folder_needs_none(tmp_path):
    recipe = a_few_steps()
    folders = tuple(tiny.corpus(tmp_path / name, 3, 1.0) for name in ("some", "more", "held"))
    data = parts.SoundData(folders[:2], folders[2:], (0.5, 0.5))
    assert load_part(parts.train_semantic(recipe, data, tmp_path / "run"), "semantic").card["data"]
    three = dataclasses.replace(data, folders=folders, valid=folders[:2], weights=(0.5, 0.3, 0.2))
    with pytest.raises(SegueError, match="3 weights for 2 folders"):
        parts.train_semantic(recipe, three, tmp_path / "other")


def test_what_does_not_go_together_is_refused():
    conformer = dataclasses.replace(tiny.PREDICTIVE, tokenizer=tiny.SEMANTIC.tokenizer)
    hybrid = dataclasses.replace(tiny.PREDICTIVE, objective=tiny.SEMANTIC.objective)
    for config in (conformer, hybrid):
        with pytest.raises(SegueError, match="cpc is for a recurrent encoder"):
            SemanticTraining(config)
    with pytest.raises(SegueError, match=r"objective\.horizon 0"):
        ObjectiveConfig(horizon=0)
    with pytest.raises(SegueError, match="recurrent: mel_bands, width and depth"):
        RecurrentConfig(depth=0)
    with pytest.raises(SegueError, match="layer 3: the encoder has blocks 0 to 1"):
        TokenizerConfig(recurrent=RecurrentConfig())
    given = override(SemanticConfig(), ['tokenizer.recurrent={"width": 32}', "tokenizer.layer=1"])
    assert given.tokenizer.sizes == RecurrentConfig(width=32)
