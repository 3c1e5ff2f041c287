"""Codebook health: what is dead, worn or working shows, and the sums don't depend on how the sound is cut up."""

from __future__ import annotations

import pytest
import tiny
import torch

from segue.codec.health import codebook_health
from segue.codec.soundstream import SoundStream
from segue.errors import SegueError

SIZE = tiny.CODES
LAYERS = tiny.CODEC.num_codebooks


@pytest.fixture
def codec() -> SoundStream:
    """Random weights whose codebooks started from k-means; one of its own for each test that changes it."""
    return tiny.make_codec()


@pytest.fixture(scope="module")
def started() -> SoundStream:
    return tiny.make_codec()


def refit(codec: SoundStream, wave: torch.Tensor) -> None:
    """Start each codebook anew and set its way out to the least-squares one, as training would."""
    with torch.no_grad():
        residual = codec.features(wave).flatten(0, 1)
        for layer in codec.quantizer.layers:
            layer.start(layer.project(residual), tiny.rng())
            code = layer.codebook[layer.nearest(layer.project(residual))]
            inputs = torch.cat([code, torch.ones(code.shape[0], 1)], dim=1)
            solution = torch.linalg.lstsq(inputs, residual).solution
            layer.project_out.weight.copy_(solution[:-1].T)
            layer.project_out.bias.copy_(solution[-1])
            residual = residual - layer.embed(layer.nearest(layer.project(residual)))


def test_every_layer_of_a_fitted_quantizer_gains(codec):
    wave = tiny.waves(4, 1.0)
    refit(codec, wave)
    health = codebook_health(codec, [wave])
    assert [layer.layer for layer in health] == list(range(1, LAYERS + 1))
    assert health[0].gain_db > 3
    assert all(layer.gain_db > 0 for layer in health), health
    assert all(layer.frames == 4 * 50 for layer in health)
    assert all(0.5 < layer.use <= 1 and SIZE / 4 < layer.perplexity <= SIZE for layer in health), health


def test_gain_is_the_fall_of_the_residual(started):
    wave = tiny.waves(2, 0.5, seed=3)
    features = started.features(wave).detach()
    codes = started.encode(wave)
    left = [features] + [features - started.quantizer.decode(codes[:, :q]).detach() for q in range(1, LAYERS + 1)]
    energy = [float(rest.double().square().sum()) for rest in left]
    for index, layer in enumerate(codebook_health(started, [wave])):
        expected = 10 * torch.tensor(energy[index] / energy[index + 1]).log10()
        assert layer.gain_db == pytest.approx(float(expected), abs=1e-3)


def test_a_dead_layer_shows(codec):
    dead = codec.quantizer.layers[2]
    dead.codebook[1:] = -dead.codebook[:1]
    with torch.no_grad():
        dead.project_in.weight.zero_()
        dead.project_in.bias.copy_(dead.codebook[0])
        dead.project_out.weight.zero_()
        dead.project_out.bias.zero_()
    health = codebook_health(codec, [tiny.waves(2, 0.5)])
    assert health[2].use == 1 / SIZE
    assert health[2].perplexity == pytest.approx(1.0)
    assert health[2].gain_db == pytest.approx(0.0, abs=1e-4)
    assert health[1].use > 1 / SIZE and health[3].use > 1 / SIZE


def test_shuffled_codes_cost_gain_and_nothing_else(codec):
    """A layer whose way out no longer fits its codes chooses as before but leaves more over."""
    wave = tiny.waves(4, 1.0)
    refit(codec, wave)
    before = codebook_health(codec, [wave])[-1]
    last = codec.quantizer.layers[-1]
    choose = last.nearest
    last.embed = lambda codes: last.project_out(last.codebook[torch.randperm(SIZE, generator=tiny.rng())[codes]])
    after = codebook_health(codec, [wave])[-1]
    assert choose(last.codebook).equal(torch.arange(SIZE))
    assert (after.use, after.perplexity) == (before.use, before.perplexity)
    assert after.gain_db < before.gain_db


def test_waves_add_up_and_are_read_once(started):
    wave = tiny.waves(3, 0.5, seed=1)
    together = codebook_health(started, [wave])
    one_by_one = codebook_health(started, (row for row in wave))
    for a, b in zip(together, one_by_one, strict=True):
        assert (a.use, a.frames) == (b.use, b.frames)
        assert a.perplexity == pytest.approx(b.perplexity) and a.gain_db == pytest.approx(b.gain_db, abs=1e-4)


def test_what_is_no_wave_is_refused(started):
    with pytest.raises(SegueError, match="no waves"):
        codebook_health(started, [])
    with pytest.raises(SegueError, match="mono"):
        codebook_health(started, [torch.zeros(1, 2, 3)])
    with pytest.raises(SegueError, match="NaN"):
        codebook_health(started, [torch.full((400,), torch.nan)])
