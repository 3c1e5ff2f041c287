"""An encoder that hears the sound both ways, and one that hears it twice: who hears what, and that rows don't mix."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import tiny
import torch

from segue.semantic.features import LogMel, frame_mask
from segue.semantic.objective import Objective
from segue.semantic.predictive import PredictiveBothWays
from segue.semantic.recurrent import RecurrentConfig, RecurrentEncoder, backwards
from segue.semantic.tokenizer import SemanticTokenizer, encoder_of, heard, pooled
from segue.train.semantic import SemanticTraining

SIZES = RecurrentConfig(mel_bands=8, width=16, depth=2, both_ways=True)
BOTH = dataclasses.replace(
    tiny.PREDICTIVE,
    tokenizer=dataclasses.replace(
        tiny.PREDICTIVE.tokenizer, recurrent=dataclasses.replace(tiny.PREDICTIVE.tokenizer.recurrent, both_ways=True)
    ),
)


@pytest.fixture
def encoder() -> RecurrentEncoder:
    torch.manual_seed(0)
    return RecurrentEncoder(SIZES)


@pytest.mark.parametrize("frame", [0, 4, 11])
def test_one_half_hears_what_came_before_and_the_other_what_comes_after(encoder, frame):
    log_mel = torch.randn(1, 24, 8, generator=tiny.rng())
    base = encoder(encoder.subsampling(log_mel))[-1]
    assert base.shape == (1, 12, 32)
    for changed in range(24):
        other = log_mel.clone()
        other[0, changed] += 1.0
        moved = (encoder(encoder.subsampling(other))[-1][0, frame] != base[0, frame]).view(2, 16).any(1)
        assert moved.tolist() == [changed <= 2 * frame + 1, changed >= 2 * frame], changed


def test_from_its_end_a_sound_is_what_the_other_half_hears_of_it_turned_around(encoder):
    for layer in encoder.blocks:
        layer.back.load_state_dict(layer.onward.state_dict())
    encoder.subsampling.back.load_state_dict(encoder.subsampling.onward.state_dict())
    log_mel = torch.randn(2, 24, 8, generator=tiny.rng())
    onward, back = encoder(encoder.subsampling(log_mel))[-1].chunk(2, dim=2)
    turned = encoder(encoder.subsampling(log_mel.flip(1)))[-1]
    assert torch.equal(turned.flip(1), torch.cat([back, onward], dim=2))


def test_rows_are_turned_around_within_their_lengths():
    frames = torch.arange(10.0).view(2, 5, 1)
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    turned = backwards(frames, valid)
    assert turned[..., 0].tolist() == [[4, 3, 2, 1, 0], [7, 6, 5, 8, 9]]
    assert torch.equal(backwards(turned, valid), frames) and torch.equal(backwards(frames), frames.flip(1))


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_row_of_a_batch_is_as_it_is_alone(interleaved):
    config = dataclasses.replace(BOTH.tokenizer, interleaved=interleaved)
    torch.manual_seed(0)
    encoder, features = encoder_of(config.sizes), LogMel(config.sizes.mel_bands)
    wave, lengths = tiny.waves(3, 1.2, seed=4), torch.tensor([19200, 9000, 700])
    log_mel = features(wave, lengths)
    valid = frame_mask(lengths, log_mel.shape[1] // 4)
    together = pooled(encoder, log_mel, valid, config)
    for row, length in enumerate(lengths.tolist()):
        own = features(wave[row : row + 1, :length])
        every = torch.ones(1, own.shape[1] // 4, dtype=torch.bool)
        alone = pooled(encoder, own, every, config)[0]
        assert torch.allclose(together[row, : len(alone)], alone, atol=1e-5)


def test_both_halves_are_asked_and_learn():
    training = SemanticTraining(BOTH, seed=4, optimiser="muon")
    training.prepare(tiny.clip_batch)
    assert isinstance(training.learner.objective.predictive, PredictiveBothWays)
    before = training.validate(tiny.clip_batch(900), tiny.rng())
    for k in range(20):
        training.step(tiny.clip_batch(k % 8), tiny.rng(k), 5e-3)
    kept = copy.deepcopy(training.state_dict())
    other = SemanticTraining(BOTH, seed=4, optimiser="muon")
    other.prepare(tiny.clip_batch)
    other.load_state_dict(kept)
    last = [one.step(tiny.clip_batch(5), tiny.rng(20), 5e-3) for one in (training, other)]
    assert last[0] == last[1]
    for k in range(21, 40):
        training.step(tiny.clip_batch(k % 8), tiny.rng(k), 5e-3)
    assert training.validate(tiny.clip_batch(900), tiny.rng())["loss"] < before["loss"] - 0.1
    training.finish(tiny.clip_batch, 4, seed=0)
    tokenizer = training.tokenizer()
    wave = tiny.waves(1, 2.0, seed=9)
    assert torch.equal(SemanticTokenizer.from_part(tokenizer.to_part({})).encode(wave), tokenizer.encode(wave))
    assert [layer.shape for layer in tokenizer.activations(wave[0])] == [(100, 32)] * 2


def test_the_loss_is_the_mean_of_both_ways():
    objective = Objective(SIZES, BOTH.objective)
    questions = objective.predictive
    targets, contexts = torch.randn(2, 2, 12, 32, generator=tiny.rng())
    valid = torch.tensor([[True] * 12, [True] * 7 + [False] * 5])
    loss, metrics = questions(targets, contexts, valid)
    onward, told = questions.onward(targets[..., :16], contexts[..., :16], valid)
    back, told_back = questions.back(backwards(targets[..., 16:], valid), backwards(contexts[..., 16:], valid), valid)
    assert torch.allclose(loss, (onward + back) / 2) and loss.requires_grad
    assert torch.allclose(metrics["predictive"], (told["predictive"] + told_back["predictive"]) / 2)


def test_heard_twice_its_frames_are_half_as_far_apart():
    config = dataclasses.replace(tiny.PREDICTIVE.tokenizer, interleaved=True)
    torch.manual_seed(0)
    encoder, features = encoder_of(config.sizes), LogMel(config.sizes.mel_bands)
    wave = tiny.waves(1, 1.0, seed=2)
    every = torch.ones(1, 25, dtype=torch.bool)
    once = heard(encoder, features(wave), every, dataclasses.replace(config, interleaved=False))[-1]
    twice = heard(encoder, features(wave), every, config)[-1]
    assert twice.shape == (1, 100, 16) and torch.equal(twice[:, ::2], once)
    shifted = torch.nn.functional.pad(features(wave)[:, 1:], (0, 0, 0, 1))
    assert torch.equal(twice[:, 1::2], encoder(encoder.subsampling(shifted))[-1])
    tokenizer = tiny.make_semantic(config=dataclasses.replace(tiny.PREDICTIVE, tokenizer=config))
    assert tokenizer.layer_rate == 100.0 and tokenizer.encode(wave).shape == (1, 25)


def test_so_can_a_conformer_be():
    config = dataclasses.replace(tiny.SEMANTIC.tokenizer, interleaved=True)
    tokenizer = tiny.make_semantic(config=dataclasses.replace(tiny.SEMANTIC, tokenizer=config))
    wave = tiny.waves(1, 1.0)
    assert tokenizer.layer_rate == 50.0 and tokenizer.encode(wave).shape == (1, 25)
    assert len(tokenizer.activations(wave[0])[-1]) == 50
