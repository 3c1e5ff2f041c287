"""The two encoder-decoder pairs: exact overlap-add, strides that make the hop, causality of features."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch
from torch.nn import functional as F

from segue.artifact import Part, load_part, save_part
from segue.codec.seanet import SeanetConfig, SeanetDecoder, SeanetEncoder, Snake
from segue.codec.soundstream import CodecConfig, SoundStream
from segue.codec.spectral import SpectralConfig, SpectralDecoder, SpectralEncoder
from segue.errors import SegueError

SEANETS = ({}, {"activation": "snake"}, {"normalised": True})


@pytest.mark.parametrize(("window", "hop"), [(640, 160), (512, 128), (320, 80), (512, 64)])
def test_overlap_add_of_true_spectra_is_the_wave(window, hop):
    decoder = SpectralDecoder(SpectralConfig(window=window, hop=hop, width=4), 4 * hop)
    count = 40
    wave = tiny.waves(2, count * hop / 16_000)
    padded = F.pad(wave, (window - hop, window - hop))
    frames = torch.fft.irfft(torch.fft.rfft(padded.unfold(-1, window, hop) * decoder.window), n=window)
    made = decoder._overlap_add(frames * decoder.window)
    assert made.shape == wave.shape
    assert torch.allclose(made, wave, atol=1e-6)


def test_spectra_that_do_not_add_up_to_a_wave_are_refused():
    for config, hop_length in [
        (SpectralConfig(window=640, hop=150), 300),
        (SpectralConfig(window=320, hop=160), 320),
        (SpectralConfig(window=640, hop=160), 400),
        (SpectralConfig(window=1280, hop=160), 320),
    ]:
        with pytest.raises(SegueError, match="window"):
            SpectralEncoder(config, hop_length)
        with pytest.raises(SegueError, match="window"):
            SpectralDecoder(config, hop_length)


def test_seanet_strides_must_make_the_hop():
    config = SeanetConfig(channels=2, width=4, strides=(2, 4, 5))
    for make in (SeanetEncoder, SeanetDecoder):
        with pytest.raises(SegueError, match="a hop of 40, not 320"):
            make(config, 320)
        make(config, 40)


def test_snake_is_as_published_and_learns_its_frequency():
    layer, x = Snake(3), torch.linspace(-3, 3, 50).expand(2, 3, 50)
    with torch.no_grad():
        layer.alpha.copy_(torch.tensor([[0.5], [1.0], [2.0]]))
    assert torch.allclose(layer(x)[:, 1], x[:, 1] + torch.sin(x[:, 1]) ** 2, atol=1e-6)
    assert torch.allclose(layer(x)[:, 2], x[:, 2] + torch.sin(2 * x[:, 2]) ** 2 / 2, atol=1e-6)
    layer(x).square().sum().backward()
    assert (layer.alpha.grad.abs() > 0).all()


@pytest.mark.parametrize(
    "pair, changes", [("spectral", {}), ("seanet", {}), *(("seanet", change) for change in SEANETS)]
)
def test_every_kind_of_codec_comes_back_from_disk_as_it_was(pair, changes, tmp_path):
    seanet = dataclasses.replace(tiny.CODEC.seanet, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = SoundStream(dataclasses.replace(tiny.CODEC, pair=pair, quantizer="plain", seanet=seanet)).eval()
    save_part(codec.to_part({}), tmp_path / "codec")
    again = SoundStream.from_part(load_part(tmp_path / "codec"))
    assert again.config == codec.config
    wave = tiny.waves(2, 0.5)
    same = again.encode(wave) == codec.encode(wave)
    assert same.float().mean() > 0.95  # half precision moves a few
    codes = codec.encode(wave)
    assert torch.allclose(again.decode(codes), codec.decode(codes), atol=2e-2)


@pytest.mark.parametrize("pair", ["spectral", "seanet"])
def test_features_do_not_hear_the_future(pair):
    codec = tiny.make_codec(pair)
    wave, other = tiny.waves(1, 1.0, seed=1), tiny.waves(1, 1.0, seed=2)
    with torch.no_grad():
        features = codec.features(wave)
        for moment in (320, 5000, 12_345):
            mixed = torch.cat([wave[:, :moment], other[:, moment:]], dim=1)
            over = moment // 320
            changed = codec.features(mixed)
            assert torch.allclose(changed[:, :over], features[:, :over], atol=1e-5)
            assert not torch.allclose(changed[:, over:], features[:, over:], atol=1e-5)


def test_normalised_features_stream_and_keep_their_size():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = SeanetEncoder(dataclasses.replace(tiny.CODEC.seanet, normalised=True), 320).eval()
    wave, memory = torch.randn(2, 6400, generator=tiny.rng()), {}  # silence has no size to keep
    with torch.no_grad():
        whole = encoder(wave)
        pieces = [encoder(piece, memory) for piece in wave.split(320 * 5, dim=1)]
    assert torch.allclose(torch.cat(pieces, dim=1), whole, atol=1e-5)
    assert torch.allclose(whole.std(dim=-1, correction=0), torch.ones(whole.shape[:2]), atol=0.05)


def test_the_first_weights_let_the_sound_through():
    """Shrinking it layer by layer, under biases that stay, is what made short trainings collapse (docs/log.md)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = SoundStream(CodecConfig(pair="seanet", seanet=SeanetConfig(channels=8)))
    with torch.no_grad():
        features = codec.features(0.07 * torch.randn(2, 16_000, generator=tiny.rng()))
        made = codec.decoder(features)
    assert 0.02 < features.std(dim=1).mean() < 0.2  # 0.0008 with PyTorch's first weights
    assert 0.01 < made.std() < 0.5 and made.mean().abs() < 0.2 * made.std()


@pytest.mark.parametrize("pair", ["spectral", "seanet"])
def test_gradients_reach_every_weight(pair):
    codec = SoundStream(CodecConfig(**{**vars(tiny.CODEC), "pair": pair}))
    made = codec.quantizer(codec.features(tiny.waves(2, 0.5)), torch.tensor([12, 12]), tiny.rng())
    codec.decoder(made.features).square().sum().backward()
    silent = [name for name, weight in codec.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []


def test_weights_of_another_size_are_refused():
    part = tiny.make_codec().to_part({})
    grown = {**part.config, "spectral": {**part.config["spectral"], "width": 32}}
    with pytest.raises(SegueError, match="do not fit"):
        SoundStream.from_part(Part("codec", grown, part.tensors))
    lacking = {name: tensor for name, tensor in part.tensors.items() if name != "decoder.up.weight"}
    with pytest.raises(SegueError, match="do not fit"):
        SoundStream.from_part(Part("codec", part.config, lacking))
    with pytest.raises(SegueError, match="no such key"):
        SoundStream.from_part(Part("codec", {**part.config, "chanels": 3}, part.tensors))
