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
    """In all of its bands together; P.862 calibrates it so, with a sine of amplitude 29.54."""
    distance = LoudnessDistance(RATE)
    sums = [distance._loudness(distance._density(tone(1000, a)))[0].sum(dim=-1) for a in (29.54, 29.54 * math.sqrt(10))]
    assert distance.width * float(sums[0].mean()) == pytest.approx(1.0, abs=0.01)
    assert float(sums[1].mean() / sums[0].mean()) == pytest.approx(2.0, rel=0.25)


def test_disturbances_are_p862s_norms():
    """One stationary difference by hand: every band's, less what is hidden, in the norms of 10.2.9."""
    distance = LoudnessDistance(RATE)
    wave, target = tone(700, 0.3, 2.0), tone(700, 0.1, 2.0)
    gain = 2**15 * math.sqrt(1e7 / float(target.square().mean() * 2**30))
    ours, theirs = (distance._density(gain * x)[0, 0] for x in (wave, target))
    loud, low = distance._loudness(ours), distance._loudness(theirs)
    apart = (loud - low - 0.25 * torch.minimum(loud, low)).clamp(min=0)
    whole, width = 49 * distance.width, distance.width
    factor = ((ours + 50) / (theirs + 50)) ** 1.2
    factor = torch.where(factor < 3, 0.0, factor.clamp(max=12))
    symmetric = whole * math.sqrt(float(((apart * width) ** 2).sum() / whole))
    asymmetric = float((apart * factor * width).sum())
    weight = (float((theirs * (theirs > distance.threshold)).sum() + 1e5) / 1e7) ** -0.04
    expected = 0.1 * min(45, symmetric * weight) + 0.0309 * min(45, asymmetric * weight)
    assert float(distance(wave, target)) == pytest.approx(expected, rel=0.05)  # the last stretch is half empty


def test_the_end_counts_as_much_as_the_rest(speech):
    distance = LoudnessDistance(RATE)
    target = speech[:, : int(1.28 * RATE)]
    for first, last in ((0, 2304), (18_176, target.shape[-1])):
        wave = target.clone()
        wave[:, first:last] += 0.1 * noise(wave[:, first:last])
        assert float(distance(wave, target)) > 0.1


def test_what_is_hidden_is_forgiven_and_what_is_added_costs_most(speech):
    distance = LoudnessDistance(RATE)
    assert float(distance(0.9 * speech, speech)) < 0.02
    gone, added = speech.clone(), speech.clone()
    gone[:, RATE : 2 * RATE] *= 0.3
    added[:, RATE : 2 * RATE] /= 0.3
    assert float(distance(added, speech)) > 2 * float(distance(gone, speech))


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


def test_levels_are_of_amplitudes():
    """Ten logarithms of a tone's 0.1, in the band that it is in the middle of."""
    distance = StructureDistance(RATE)
    peaks = [float(distance.levels(tone(hertz, math.sqrt(2) / 10, 0.2)).max()) for hertz in range(900, 1300, 20)]
    assert max(peaks) == pytest.approx(-10, abs=0.2)


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
