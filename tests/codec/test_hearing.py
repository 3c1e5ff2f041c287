"""Distances of hearing: calibrated as their sources say, in line with the measures they have the gradients of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile
import tiny
import torch

from segue.codec.hearing import FLOOR, LoudnessDistance, StructureDistance, bark, threshold_db

RATE = 16_000
BOTH = pytest.mark.parametrize(
    "distance", [LoudnessDistance(RATE), StructureDistance(RATE)], ids=["loudness", "structure"]
)


@pytest.fixture(scope="module")
def speech() -> torch.Tensor:
    wave, rate = soundfile.read("examples/speech.wav", dtype="float32")
    assert rate == RATE
    return torch.from_numpy(wave)[None, : 4 * RATE]


def noise(like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape, generator=tiny.rng())


def tone(hertz: float, amplitude: float, seconds: float = 1.0) -> torch.Tensor:
    return amplitude * torch.sin(2 * math.pi * hertz * torch.arange(int(seconds * RATE)) / RATE)[None]


@BOTH
def test_it_is_zero_for_the_wave_itself_and_grows_with_noise(distance, speech):
    levels = [float(distance(speech + level * noise(speech), speech)) for level in (0.0, 0.001, 0.01, 0.1)]
    assert levels[0] < 2e-3 < levels[1] < levels[2] < levels[3]


@BOTH
def test_gradients_are_finite_where_there_is_silence_or_hardly_a_frame(distance):
    for target in (torch.zeros(2, 4000), tiny.waves(2, 0.25), tiny.waves(1, 0.02)):
        wave = torch.zeros_like(target, requires_grad=True)
        distance(wave, target).backward()
        assert torch.isfinite(wave.grad).all()


@BOTH
def test_a_step_against_the_gradient_comes_nearer(distance, speech):
    wave = (speech + 0.01 * noise(speech)).requires_grad_()
    before = distance(wave, speech)
    before.backward()
    after = distance(wave.detach() - 1e-3 * wave.grad / wave.grad.norm(), speech)
    assert float(after) < before.item()


def test_the_scale_is_zwickers():
    assert bark(torch.tensor([100.0, 1000.0, 8000.0])).tolist() == pytest.approx([0.99, 8.51, 21.3], abs=0.1)
    threshold = threshold_db(torch.tensor([50.0, 1000.0, 3300.0]))
    assert threshold[2] < threshold[1] < 5 < threshold[0]


def test_a_tone_of_40_decibels_is_one_sone_and_ten_decibels_double_it():
    """The peak of the loudness by band; P.862 calibrates it so, with a sine of amplitude 29.54."""
    distance = LoudnessDistance(RATE)
    peaks = [float(distance._loudness(distance._density(tone(1000, a))).max()) for a in (29.54, 29.54 * math.sqrt(10))]
    assert peaks[0] == pytest.approx(1.0, abs=0.01) and peaks[1] == pytest.approx(2.0, rel=0.2)


def test_what_loud_sound_hides_is_forgiven_and_what_is_added_costs_most(speech):
    distance = LoudnessDistance(RATE)
    loud, faint = tone(1000, 0.3), tone(1100, 0.0001)
    assert float(distance(loud + faint, loud)) < 0.05
    gone, added = speech.clone(), speech.clone()
    gone[:, RATE : 2 * RATE] *= 0.3
    added[:, RATE : 2 * RATE] /= 0.3
    assert float(distance(added, speech)) > 1.5 * float(distance(gone, speech))


def test_structure_is_blind_to_level_and_sees_what_moves_the_other_way(speech):
    distance = StructureDistance(RATE)
    assert float(distance(0.8 * speech, speech)) < 0.02
    other = speech.roll(RATE // 10, dims=-1)
    assert float(distance(other, speech)) > 0.3


def test_loudness_ranks_as_pesq_does(speech):
    pesq = pytest.importorskip("pesq").pesq
    distance, made = LoudnessDistance(RATE), [speech + level * noise(speech) for level in (0.0005, 0.002, 0.008, 0.03)]
    scores = [pesq(RATE, speech[0].numpy(), wave[0].numpy(), "wb") for wave in made]
    apart = [float(distance(wave, speech)) for wave in made]
    assert scores == sorted(scores, reverse=True) and apart == sorted(apart)


def test_structure_is_nsim(speech):
    """On the same levels, ViSQOL's own similarity."""
    nsim = pytest.importorskip("visqol.nsim")
    distance = StructureDistance(RATE)
    loud = speech[:, RATE // 2 : RATE]
    wave = loud + 0.01 * noise(loud)
    ours, theirs = (np.maximum(distance.levels(x)[0].T.numpy(), FLOOR) - FLOOR for x in (wave, loud))
    assert theirs.max(axis=0).min() > theirs.max() - 20  # no frame is left out
    similar = nsim.measure_patch_similarity(theirs.astype(np.float64), ours.astype(np.float64)).similarity
    assert float(distance(wave, loud)) == pytest.approx(1 - similar, abs=2e-3)
