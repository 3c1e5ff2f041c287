"""Rounds with a teacher: what the pupil hears, what it is asked, where it starts; trainings of several rounds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny
import torch

from segue import parts
from segue.artifact import load_part
from segue.errors import SegueError
from segue.recipes import tiny as tiny_recipe
from segue.semantic.features import LogMel, mel_filterbank
from segue.semantic.objective import Objective, ObjectiveConfig
from segue.semantic.perturb import Draws, Perturbation, warped_filterbank
from segue.semantic.tokenizer import SemanticTokenizer
from segue.train.semantic import SemanticConfig, SemanticTraining

TAUGHT = dataclasses.replace(
    tiny.SEMANTIC, objective=dataclasses.replace(tiny.SEMANTIC.objective, kind="teacher"), warp=1.2, colour=0.3
)


def same(rows: int, formants: int = 5, harmonics: int = 5, colour: float = 0.0) -> Draws:
    """Every row alike; 5 of 0 to 10 moves nothing."""
    return Draws(torch.full((rows,), formants), torch.full((rows,), harmonics), torch.full((rows, 5), colour))


def test_no_warp_is_the_plain_filterbank():
    assert torch.allclose(warped_filterbank(40, 1.0), mel_filterbank(40), atol=1e-6)
    features, wave, lengths = LogMel(40), tiny.waves(2, 0.5), torch.tensor([8000, 5000])
    plain = features(wave, lengths)
    for warp in (1.0, 1.2):
        made = Perturbation(40, warp, 0.0)(features, features.power(wave, lengths), same(2))
        assert torch.allclose(made, plain, atol=1e-3)


@pytest.mark.parametrize(("draw", "factor"), [(0, 1 / 1.25), (10, 1.25)])
def test_a_warp_moves_a_tone_by_its_factor(draw, factor):
    features, bands = LogMel(80), mel_filterbank(80)
    centres = (bands * torch.linspace(0, 8000, 257)[:, None]).sum(0) / bands.sum(0)
    time = torch.arange(8000) / 16_000
    wave = 0.3 * torch.sin(2 * torch.pi * 2000 * time)[None]
    made = Perturbation(80, 1.25, 0.0)(features, features.power(wave, torch.tensor([8000])), same(1, draw, draw))
    heard = float(centres[made[0, 20].argmax()])
    assert heard == pytest.approx(2000 * factor, rel=0.06)


def test_formants_and_harmonics_are_moved_apart():
    features, lengths = LogMel(80), torch.tensor([8000])
    time = torch.arange(8000) / 16_000
    wave = sum(0.05 * torch.sin(2 * torch.pi * 250 * k * time) for k in range(1, 25))[None]
    perturbation = Perturbation(80, 1.25, 0.0)
    plain = features(wave, lengths)[0, 20]
    moved = {
        name: perturbation(features, features.power(wave, lengths), draws)[0, 20]
        for name, draws in (("formants", same(1, 0, 5)), ("harmonics", same(1, 5, 0)))
    }
    peaks = {name: set((row[1:-1] > torch.maximum(row[:-2], row[2:])).nonzero()[:12, 0].tolist())
             for name, row in (moved | {"plain": plain}).items()}  # fmt: skip
    kept = {name: len(peaks[name] & peaks["plain"]) for name in moved}
    assert kept["formants"] > kept["harmonics"]


def test_a_colour_is_the_same_all_along_and_differs_between_rows():
    features, wave, lengths = LogMel(40), tiny.waves(2, 0.5), torch.tensor([8000, 8000])
    perturbation = Perturbation(40, 1.0, 0.5)
    draws = perturbation.draw(2, tiny.rng(3))
    change = perturbation(features, features.power(wave, lengths), draws) - features(wave, lengths)
    assert torch.allclose(change, change[:, :1].expand_as(change), atol=1e-4)
    assert not torch.allclose(change[0, 0], change[1, 0], atol=0.05)


def test_draws_depend_on_the_generator_alone_and_rows_can_be_taken():
    perturbation = Perturbation(40, 1.2, 0.5)
    first, again = perturbation.draw(6, tiny.rng(1)), perturbation.draw(6, tiny.rng(1))
    assert torch.equal(first.formants, again.formants) and torch.equal(first.curve, again.curve)
    assert torch.equal(first[2:4].harmonics, first.harmonics[2:4]) and first[2:4].curve.shape == (2, 5)


@pytest.fixture(scope="module")
def teacher() -> SemanticTokenizer:
    return tiny.make_semantic()


def test_a_pupil_starts_as_its_teacher(teacher):
    training = SemanticTraining(TAUGHT, seed=4, teacher=teacher)
    training.prepare(tiny.clip_batch)
    wave = tiny.waves(1, 1.0)
    ours = training.learner.encoder(training.learner.encoder.subsampling(training.learner.features(wave)))
    theirs = teacher.activations(wave[0])
    assert torch.allclose(ours[-1][0], theirs[-1], atol=1e-5)
    other = dataclasses.replace(TAUGHT.tokenizer.encoder, width=32)
    larger = dataclasses.replace(TAUGHT, tokenizer=dataclasses.replace(TAUGHT.tokenizer, encoder=other))
    assert SemanticTraining(larger, seed=4, teacher=teacher).learner.encoder.config.width == 32


def test_a_pupil_learns_to_name_its_teachers_tokens(teacher):
    training = SemanticTraining(TAUGHT, seed=4, teacher=teacher)
    before = training.validate(tiny.clip_batch(900), tiny.rng())
    for step in range(40):
        losses = training.step(tiny.clip_batch(step % 8), tiny.rng(step), 5e-3)
    after = training.validate(tiny.clip_batch(900), tiny.rng())
    assert {"loss", "masked", "shown", "masked_accuracy"} <= losses.keys()
    assert after["shown"] < before["shown"] - 0.2


def test_it_is_asked_for_the_tokens_of_the_sound_as_it_is(teacher):
    training = SemanticTraining(TAUGHT, seed=4, teacher=teacher)
    wave, lengths = tiny.clip_batch(3)
    assert torch.equal(training._taught(wave, lengths), teacher.encode(wave, lengths))


def test_a_teacher_is_for_its_own_objective():
    with pytest.raises(SegueError, match=r"objective\.kind teacher"):
        SemanticTraining(TAUGHT)
    with pytest.raises(SegueError, match=r"objective\.kind hybrid"):
        Objective(tiny.SEMANTIC.tokenizer.encoder, ObjectiveConfig(), teacher_size=16)
    with pytest.raises(SegueError, match=r"warp 0\.9"):
        SemanticConfig(warp=0.9)


def test_rounds_follow_each_other_and_go_on_where_they_stopped(tmp_path):
    data = parts.SoundData((tiny.corpus(tmp_path / "sound", 4, 1.0),))
    recipe = dataclasses.replace(
        tiny_recipe().semantic,
        model=dataclasses.replace(tiny.SEMANTIC, warp=1.1, colour=0.2),
        cluster_batches=4,
        train=dataclasses.replace(
            tiny_recipe().semantic.train, steps=4, batch_size=2, crop_seconds=1.0, warmup_steps=1
        ),
        rounds=2,
        teacher_layer=0,
    )
    told: list[int] = []
    made = parts.train_semantic(recipe, data, tmp_path / "run", lambda event: told.append(event.steps))
    assert set(told) == {4, 2} and made == tmp_path / "run" / "artifact"
    chain = [load_part(tmp_path / "run" / name / "artifact", "semantic") for name in ("round-0", "round-1", ".")]
    assert [part.config["layer"] for part in chain] == [0, 1, 1]
    assert "teacher" not in chain[0].card
    assert [part.card["teacher"] for part in chain[1:]] == [part.fingerprint for part in chain[:2]]
    told.clear()
    again = parts.train_semantic(recipe, data, tmp_path / "run", lambda event: told.append(event.steps))
    assert told == [] and load_part(again).fingerprint == chain[2].fingerprint
    wave = torch.from_numpy(np.stack([tiny.sound(0.5)]))
    assert SemanticTokenizer.from_part(load_part(again)).encode(wave).shape == (1, 13)
    longer = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, steps=6))
    parts.train_semantic(longer, data, tmp_path / "run", lambda event: told.append(event.steps))
    assert set(told) == {3}, "rounds whose pupil has begun to learn stay as they are"
    after = [load_part(tmp_path / "run" / name / "artifact", "semantic") for name in ("round-0", "round-1", ".")]
    assert [part.fingerprint for part in after[:2]] == [part.fingerprint for part in chain[:2]]
    assert after[2].card["steps"] == 3 and after[2].card["teacher"] == chain[1].fingerprint
