"""Losses and discriminators: zero where nothing is wrong, more where more is, and each side pulls its own way."""

from __future__ import annotations

import pytest
import tiny
import torch

from segue.codec.discriminators import DiscriminatorConfig, Discriminators, PeriodDiscriminator
from segue.codec.losses import (
    ReconstructionLoss,
    discriminator_loss,
    feature_distances,
    generator_loss,
    mel_filters,
)
from segue.codec.stft import stft
from segue.errors import SegueError

SMALL = DiscriminatorConfig(stft_windows=(128, 256), stft_channels=4, wave_scales=2, wave_channels=4, periods=(2, 3))


def test_reconstruction_is_zero_for_the_wave_itself_and_grows_with_noise():
    loss, wave = ReconstructionLoss(16_000, 1.0, 2.0, 5.0, 1.0), tiny.waves(2, 0.5)
    noise = torch.randn(wave.shape, generator=tiny.rng())
    assert all(float(value) < 1e-6 for value in loss(wave, wave).values())
    for name in ("mel", "complex", "wave", "log"):
        levels = [float(loss(wave + level * noise, wave)[name]) for level in (0.001, 0.01, 0.1)]
        assert 0 < levels[0] < levels[1] < levels[2], name


def test_complex_hears_phase_where_mel_is_nearly_deaf():
    loss, wave = ReconstructionLoss(16_000, 1.0, 1.0, 1.0), tiny.waves(1, 0.5)
    flipped, near = loss(-wave, wave), loss(0.99 * wave, wave)
    assert float(flipped["mel"]) < 1e-5 < float(near["mel"])
    assert float(flipped["complex"]) > 20 * float(near["complex"])


def test_weights_scale_their_own_loss():
    wave = tiny.waves(1, 0.3)
    one, two = (ReconstructionLoss(16_000, *w)(0.5 * wave, wave) for w in ((1.0, 1.0, 1.0, 1.0), (2.0, 3.0, 4.0, 5.0)))
    assert [float(two[k] / one[k]) for k in ("mel", "complex", "wave", "log")] == pytest.approx([2.0, 3.0, 4.0, 5.0])
    assert "log" not in ReconstructionLoss(16_000, 1.0, 1.0, 1.0)(wave, wave)


def test_log_spectra_hear_a_comb_where_mel_bands_are_wide():
    """Clicks 10 ms apart against the same at random places: high up, a mel band holds several of the comb's lines."""
    place = torch.randint(0, 160, (100,), generator=tiny.rng()) + 160 * torch.arange(100)
    comb, spread = torch.zeros(1, 16_000), torch.zeros(1, 16_000)
    comb[:, ::160], spread[:, place] = 1.0, 1.0
    other = torch.zeros(1, 16_000)
    other[:, torch.randint(0, 160, (100,), generator=tiny.rng(1)) + 160 * torch.arange(100)] = 1.0
    loss = ReconstructionLoss(16_000, 1.0, 1.0, 1.0, 1.0)
    of_comb, of_other = loss(comb, spread), loss(other, spread)
    assert of_comb["log"] / of_other["log"] > of_comb["mel"] / of_other["mel"]


def test_losses_reach_the_wave_even_through_silence():
    wave = torch.zeros(1, 4000, requires_grad=True)
    sum(ReconstructionLoss(16_000, 1.0, 1.0, 1.0)(wave, tiny.waves(1, 0.25)).values()).backward()
    assert torch.isfinite(wave.grad).all() and wave.grad.any()


def test_spectra_and_filters_have_their_shapes():
    spectra = stft(torch.randn(2, 1600), torch.hann_window(256), 64)
    assert spectra.shape == (2, 28, 129)
    within = stft(torch.ones(1, 1600), torch.ones(256), 64, padded=False)
    assert within.shape == (1, 22, 129) and within[..., 0].real.eq(256).all()
    filters = mel_filters(20, 512, 16_000)
    assert filters.shape == (257, 20) and (filters >= 0).all() and (filters.sum(0) > 0).all()


def logits(value: float) -> list[list[torch.Tensor]]:
    return [[torch.zeros(1, 3), torch.full((1, 1, 4), value)]]


def test_each_side_is_content_when_it_wins():
    assert float(discriminator_loss(logits(2.0), logits(-2.0))) == 0.0
    assert float(discriminator_loss(logits(-1.0), logits(1.0))) == 4.0
    assert float(generator_loss(logits(1.5))) == 0.0
    assert float(generator_loss(logits(-1.0))) == 2.0


def test_gradients_pull_each_side_its_own_way():
    real = torch.zeros(1, 1, 4, requires_grad=True)
    fake = torch.zeros(1, 1, 4, requires_grad=True)
    discriminator_loss([[real]], [[fake]]).backward()
    assert (real.grad < 0).all() and (fake.grad > 0).all()
    fooled = torch.zeros(1, 1, 4, requires_grad=True)
    generator_loss([[fooled]]).backward()
    assert (fooled.grad < 0).all()


def test_feature_matching_is_a_distance_to_the_real_ones():
    real = [[torch.ones(1, 2, 3), torch.ones(1, 1, 3)]]
    near, far = ([[torch.full((1, 2, 3), v), torch.zeros(1, 1, 3)]] for v in (1.1, 2.0))
    assert feature_distances(real, real)[0].tolist() == [0.0]
    apart, sizes = feature_distances([[2 * real[0][0], real[0][1]]], near)
    assert sizes.tolist() == [2.0] and apart.tolist() == pytest.approx([0.9])
    assert 0 < float(feature_distances(real, near)[0]) < float(feature_distances(real, far)[0])


def test_every_discriminator_answers_and_learns_to_tell():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Discriminators(SMALL)
    real = tiny.waves(2, 0.2)
    fake = 0.1 * torch.randn(real.shape, generator=tiny.rng())
    assert len(module(real)) == 6
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    before = float(discriminator_loss(module(real), module(fake)).detach())
    for _ in range(12):
        optimiser.zero_grad()
        loss = discriminator_loss(module(real), module(fake))
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.8 * before
    for one_real, one_fake in zip(module(real), module(fake), strict=True):
        assert one_real[-1].mean() > one_fake[-1].mean()


def test_a_period_discriminator_hears_each_phase_of_its_period_alone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = PeriodDiscriminator(3, 4)
    wave = torch.randn(1, 300, generator=tiny.rng())
    changed = wave.clone()
    changed[:, 1::3] += 1
    for ours, theirs in zip(module(wave), module(changed), strict=True):
        same = torch.isclose(ours, theirs).all(dim=2).all(dim=1)[0]
        assert same.tolist() == [True, False, True]
    assert module(wave[:, :299])[-1].shape == module(wave)[-1].shape


def test_a_period_of_one_sample_is_refused():
    with pytest.raises(SegueError, match="periods"):
        DiscriminatorConfig(periods=(2, 1))
