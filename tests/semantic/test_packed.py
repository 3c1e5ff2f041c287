"""A packed tokenizer: what comes back is what was packed, in less space, and by whose encoder it goes on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import tiny
import torch

from segue.artifact import Part, load_part, save_part
from segue.bundle import BUNDLED, save_bundle
from segue.errors import SegueError
from segue.generate.manner import Manner
from segue.semantic.packed import pack, unpack
from segue.semantic.tokenizer import SemanticTokenizer
from segue.tokenizers import PHONETIC, load_semantic, load_unpacked, semantic_folder


@pytest.fixture(scope="module")
def onward() -> Part:
    return tiny.make_semantic(config=tiny.PREDICTIVE).to_part({})


@pytest.fixture(scope="module")
def both(onward: Part) -> Part:
    """A tokenizer that hears both ways and goes on as `onward`."""
    sizes = tiny.PREDICTIVE.tokenizer
    assert sizes.recurrent is not None
    config = dataclasses.replace(sizes, recurrent=dataclasses.replace(sizes.recurrent, both_ways=True))
    made = tiny.make_semantic(config=dataclasses.replace(tiny.PREDICTIVE, tokenizer=config)).to_part({})
    names = {name: name.replace(".onward.", ".") for name in made.tensors if ".onward." in name}
    own = {name: onward.tensors[other] for name, other in names.items()}
    return dataclasses.replace(made, tensors=made.tensors | own)


def test_it_comes_back_as_near_as_a_step_of_eight_bits(onward, both, tmp_path):
    save_part(pack(both, onward), tmp_path / "packed")
    packed = load_part(tmp_path / "packed", "semantic")
    assert not any(".onward." in name for name in packed.tensors) and packed.requires == {"onward": onward.fingerprint}
    again = unpack(packed, onward)
    assert again.tensors.keys() == both.tensors.keys() and again.requires == {}
    for name, tensor in both.tensors.items():
        if ".back." in name and tensor.dim() == 2:
            steps = tensor.float().abs().amax(1, keepdim=True) / 127
            assert ((again.tensors[name].float() - tensor.float()).abs() <= 0.6 * steps + 1e-6).all(), name
        else:
            assert torch.equal(again.tensors[name], tensor), name
    assert pack(again, onward).fingerprint == pack(unpack(pack(again, onward), onward), onward).fingerprint
    assert SemanticTokenizer.from_part(again).fingerprint == again.fingerprint


def test_packed_it_is_no_tokenizer_yet(onward, both):
    with pytest.raises(SegueError, match="it is packed; load it by its name or folder"):
        SemanticTokenizer.from_part(pack(both, onward))


def test_another_tokenizer_can_go_on_in_neither(onward, both):
    other = tiny.make_semantic(seed=5, config=tiny.PREDICTIVE).to_part({})
    with pytest.raises(SegueError, match=f"isn't that of the tokenizer {other.fingerprint}"):
        pack(both, other)
    with pytest.raises(SegueError, match="there is none to be shared"):
        pack(onward, onward)
    packed = pack(both, onward)
    scales = {name: tensor for name, tensor in packed.tensors.items() if not name.endswith(".scale")}
    with pytest.raises(SegueError, match="it has no scale"):
        unpack(dataclasses.replace(packed, tensors=scales), onward)
    with pytest.raises(SegueError, match=f"goes on as the tokenizer {onward.fingerprint}, that one is"):
        unpack(pack(both, onward), other)


def test_the_bundled_one_goes_on_as_the_tokenizer_of_speech():
    phonetic, speech = load_semantic(PHONETIC), load_semantic(semantic_folder(PHONETIC).parent / "speech" / "semantic")
    assert (phonetic.layer_rate, speech.layer_rate) == (100.0, 50.0)
    wave = tiny.waves(1, 1.0, seed=1)[0]
    *_, last, places = phonetic.activations(wave)
    assert torch.allclose(last[::2, :384], speech.activations(wave)[-1], atol=1e-6) and places.shape == (100, 60)
    tokens = phonetic.encode(wave[None])
    assert tokens.shape == (1, 25) and 0 <= int(tokens.min()) <= int(tokens.max()) < 512


def test_one_of_another_tokenizer_is_refused_by_its_folder(onward, both, tmp_path):
    save_part(pack(both, onward), tmp_path / "packed")
    with pytest.raises(SegueError, match=rf"packed: it goes on as the tokenizer {onward.fingerprint}, that one is"):
        load_unpacked(tmp_path / "packed")


def test_a_bundle_goes_by_what_its_tokens_are_and_not_by_how_it_is_kept(tmp_path):
    told = json.loads((BUNDLED / "speech" / "bundle.json").read_text())["parts"]
    folders: dict[str, str | Path] = {role: BUNDLED / "speech" / entry["folder"] for role, entry in told.items()}
    with pytest.raises(SegueError, match=f"but the semantic here is {load_semantic(PHONETIC).fingerprint}"):
        save_bundle(tmp_path / "mixed", "mixed", folders | {"semantic": BUNDLED / PHONETIC}, Manner())


def test_verbs_know_it_by_name(cli, tmp_path):
    sound = tiny.corpus(tmp_path / "sound", 12, 1.0)
    clip = next(iter(sorted(sound.glob("*.wav"))))
    told = cli("tokens", clip, "--semantic", PHONETIC, "--json")
    assert told.code == 0 and load_semantic(PHONETIC).fingerprint in told.out
    store = cli("tokenize", sound, "--out", tmp_path / "tokens", "--semantic", PHONETIC)
    assert store.code == 0, store.err
    sets = ("--set", "model.tokenizer.vocab_size=8", "--set", "model.tokenizer.axes=4", "--set", "cluster_batches=2")
    crops = ("--set", "train.crop_seconds=1", "--set", "train.batch_size=6", "--device", "cpu", "--licence", "CC0")
    made = cli("train", "semantic", "--encoder", PHONETIC, "--data", sound, "--out", tmp_path / "run", *sets, *crops)
    assert made.code == 0, made.err
    again = load_semantic(tmp_path / "run")
    assert again.config.axes == 4 and not again.config.interleaved and again.vocab_size == 8
    fewer = cli("train", "semantic", "--encoder", PHONETIC, "--data", sound, "--out", tmp_path / "few", *sets, *crops,
                "--set", "train.batch_size=2")  # fmt: skip
    assert fewer.code == 2 and "there are only 100 frames" in fewer.err and not (tmp_path / "few").exists()
