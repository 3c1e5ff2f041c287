"""SEANet's weight normalisation: folded for use and on disk, there for training, and either form loads into either."""

from __future__ import annotations

import pytest
import tiny
import torch

from segue.artifact import Part, half
from segue.codec.seanet import fold_weight_norm
from segue.codec.soundstream import CodecConfig, SoundStream, load_weights
from segue.errors import SegueError


def weight_normalised(seed: int) -> SoundStream:
    """A SEANet codec as training has it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        codec = SoundStream(CodecConfig(**{**vars(tiny.CODEC), "pair": "seanet"})).eval()
    with torch.no_grad():
        for name, weight in codec.named_parameters():
            if name.endswith("original0"):
                weight *= 1.2  # gains that are not the norms of the directions
    return codec


def test_folding_weight_norm_changes_no_sound():
    codec, wave = weight_normalised(0), tiny.waves(2, 0.5)
    with torch.no_grad():
        features = codec.features(wave)
        sound = codec.decoder(features)
        fold_weight_norm(codec)
        assert not any("parametrizations" in name for name in codec.state_dict())
        assert torch.allclose(codec.features(wave), features, atol=1e-5)
        assert torch.allclose(codec.decoder(features), sound, atol=1e-5)


def test_an_artifact_is_folded_whatever_it_was_made_from():
    trained, wave = weight_normalised(0), tiny.waves(2, 0.5)
    part = trained.to_part({})
    assert "parametrizations" not in " ".join(part.tensors)
    assert any("parametrizations" in name for name in trained.state_dict()), "exporting must not touch the codec"
    loaded = SoundStream.from_part(part)
    assert not any("parametrizations" in name for name in loaded.state_dict())
    assert loaded.to_part({}).fingerprint == part.fingerprint
    split = Part("codec", part.config, half(trained.state_dict()))  # one with gains and directions loads as well
    assert any("parametrizations" in name for name in split.tensors)
    again = SoundStream.from_part(split)
    with torch.no_grad():
        assert torch.allclose(again.features(wave), loaded.features(wave), atol=2e-2)
        assert torch.allclose(again.features(wave), trained.features(wave), atol=2e-2)


def test_training_goes_on_from_a_folded_artifact():
    part = weight_normalised(0).to_part({})
    trained, wave = weight_normalised(1), tiny.waves(2, 0.5)
    load_weights(trained, part)
    loaded = SoundStream.from_part(part)
    assert any("parametrizations" in name for name in trained.state_dict())
    with torch.no_grad():
        assert torch.allclose(trained.features(wave), loaded.features(wave), atol=1e-5)
    assert trained.to_part({}).fingerprint == part.fingerprint
    for name, tensor in part.tensors.items():
        if name.endswith("convolution.weight"):
            flat = {**part.tensors, name: tensor.flatten()}
            for codec in (trained, loaded):
                with pytest.raises(SegueError, match="do not fit"):
                    load_weights(codec, Part("codec", part.config, flat))
            break
