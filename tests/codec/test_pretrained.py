"""Published codecs behind the seam: small random ones on disk, and every way in which loading one can fail."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

pytest.importorskip("transformers")

import huggingface_hub
from published import KINDS, SIZE, classes, save_models
from safetensors.torch import load_file, save_file

from segue.bundle import load_codec
from segue.codec import file
from segue.codec.pretrained import PretrainedCodec, read_part
from segue.errors import SegueError
from segue.published import Reference

FACTS = {"encodec": (24_000, 320, 75.0, 6), "dac": (16_000, 320, 50.0, 5), "mimi": (24_000, 1920, 12.5, 5)}


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """One model of each kind; don't write into them."""
    return save_models(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def codecs(folders) -> dict[str, PretrainedCodec]:
    return {kind: load_codec(f"hf:{folder}") for kind, folder in folders.items()}


@pytest.fixture(params=KINDS)
def codec(request, codecs) -> PretrainedCodec:
    return codecs[request.param]


@cache
def sounds(rate: int) -> torch.Tensor:
    """(3, N) of half a second."""
    return torch.from_numpy(np.stack([tiny.sound(0.5, row, rate) for row in range(3)]))


def copied(folder: Path, tmp_path: Path) -> Path:
    """A model to spoil."""
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("kind", KINDS)
def test_facts(codecs, kind):
    codec = codecs[kind]
    assert (codec.sample_rate, codec.hop_length, codec.frame_rate, codec.num_codebooks) == FACTS[kind]
    assert codec.codebook_size == SIZE and len(codec.fingerprint) == 16 and int(codec.fingerprint, 16)
    assert not any(module.training for module in codec.modules())
    assert not any(weight.requires_grad for weight in codec.parameters())
    assert {weight.dtype for weight in codec.parameters()} == {torch.float32}


def test_one_frame_for_each_hop_begun_and_a_hop_for_each_frame(codec):
    hop = codec.hop_length
    for samples in (1, hop - 1, hop, hop + 1, 2 * hop + 7):
        codes = codec.encode(0.1 * torch.randn(2, samples, generator=tiny.rng(samples)))
        assert codes.shape == (2, codec.num_codebooks, -(-samples // hop)) and codes.dtype == torch.int64
        wave = codec.decode(codes.int())
        assert wave.shape == (2, codes.shape[2] * hop) and wave.dtype == torch.float32
        assert torch.isfinite(wave).all() and not wave.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_codes_and_sound_are_the_models_own(codecs, folders, kind):
    """As transformers gives them for a wave of whole frames, with nothing of Segue's between."""
    model = classes(kind)[1].from_pretrained(folders[kind])
    codec, frames = codecs[kind], 5
    wave = sounds(codec.sample_rate)[:1, : frames * codec.hop_length]
    with torch.no_grad():
        if kind == "encodec":
            codes = model.encode(wave[:, None], bandwidth=1.8).audio_codes
            sound = model.decode(codes, [None]).audio_values[:, 0]
            codes = codes[0]
        else:
            codes = model.encode(wave[:, None]).audio_codes
            sound = model.decode(audio_codes=codes).audio_values.reshape(1, -1)
    assert torch.equal(codec.encode(wave), codes) and len(codes.unique()) > 3
    made = codec.decode(codes)
    assert torch.allclose(made[:, : sound.shape[1]], sound, atol=1e-6)
    assert sound.shape[1] == made.shape[1] - (8 if kind == "dac" else 0) and not made[:, sound.shape[1] :].any()


def test_a_row_does_not_depend_on_its_batch_nor_on_what_follows_it(codec):
    wave = sounds(codec.sample_rate)
    lengths = torch.tensor([wave.shape[1], wave.shape[1] // 2 + 3, 1 + wave.shape[1] // 3])
    together = codec.encode(wave, lengths)
    loud = torch.where(torch.arange(wave.shape[1]) < lengths[:, None], wave, 0.9)
    assert torch.equal(together, codec.encode(loud, lengths))
    for row, length in enumerate(lengths.tolist()):
        alone = codec.encode(wave[row : row + 1, :length])[0]
        assert torch.equal(together[row, :, : alone.shape[1]], alone)
        assert not together[row, :, alone.shape[1] :].any()
    assert torch.allclose(codec.decode(together)[1:2], codec.decode(together[1:2]), atol=1e-5)
    assert not torch.equal(together[0], codec.encode(wave[1:])[0])


def test_the_first_layers_are_coded_and_decoded_alone(codec):
    wave = sounds(codec.sample_rate)[:1]
    codes = codec.encode(wave)
    for q in (1, 2, codec.num_codebooks):
        assert torch.equal(codec.encode(wave, num_codebooks=q), codes[:, :q])
    few = codec.decode(codes[:, :1])
    assert few.shape == codec.decode(codes).shape and not torch.equal(few, codec.decode(codes))
    for q in (0, -1, codec.num_codebooks + 1):
        with pytest.raises(SegueError, match=f"num_codebooks {q}: this codec has 1 to {codec.num_codebooks}"):
            codec.encode(wave, num_codebooks=q)


def test_half_precision_comes_in(codec):
    wave = sounds(codec.sample_rate)[:1].half()
    assert torch.equal(codec.encode(wave), codec.encode(wave.float()))
    assert torch.equal(codec.encode(wave.double()), codec.encode(wave.float()))


@pytest.mark.parametrize(
    ("wave", "lengths"),
    [
        (torch.zeros(5000), None),
        (torch.zeros(1, 2, 5000), None),
        (torch.zeros(1, 0), None),
        (torch.zeros(0, 5000), None),
        (torch.zeros(1, 5000, dtype=torch.int16), None),
        (torch.full((1, 5000), float("nan")), None),
        (torch.zeros(2, 50), [1]),
        (torch.zeros(2, 50), [50, 0]),
        (torch.zeros(2, 50), [51, 1]),
        (torch.zeros(2, 50), [1.0, 2.0]),
    ],
)
def test_what_is_no_wave_is_refused(codec, wave, lengths):
    with pytest.raises(SegueError):
        codec.encode(wave, None if lengths is None else torch.tensor(lengths))


def test_codes_that_do_not_exist_are_refused(codec):
    books = codec.num_codebooks
    shapes = [(books, 4), (1, books + 1, 4), (1, 0, 4), (1, books, 0), (0, books, 4)]
    bad = [torch.zeros(shape, dtype=torch.int64) for shape in shapes]
    bad += [torch.zeros(1, books, 4), torch.full((1, books, 4), SIZE), torch.full((1, books, 4), -1)]
    for codes in bad:
        with pytest.raises(SegueError, match="codes"):
            codec.decode(codes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_sound_is_coded_in_pieces(folders, monkeypatch, kind):
    """No piece is longer than it and what it sees; with enough in sight the pieces are those of the whole."""
    codec = load_codec(f"hf:{folders[kind]}")
    wave = sounds(codec.sample_rate)[:1].repeat(1, 4)
    whole = codec.encode(wave)
    sound = codec.decode(whole)
    frames = whole.shape[2]
    codec.chunk_frames, codec.context_frames = -(-frames // 3), -(-frames // 4)
    asked = []
    encode = codec.model.encode
    monkeypatch.setattr(codec.model, "encode", lambda x, **more: asked.append(x.shape[2]) or encode(x, **more))
    codes = codec.encode(wave)
    assert codes.shape == whole.shape and codec.decode(codes).shape == sound.shape
    assert len(asked) == 3 and max(asked) <= (codec.chunk_frames + 2 * codec.context_frames) * codec.hop_length
    assert torch.equal(codes[..., : codec.chunk_frames - 5], whole[..., : codec.chunk_frames - 5])
    if kind == "dac":  # the one that sees no further than its convolutions reach
        assert torch.equal(codes, whole) and torch.allclose(codec.decode(whole), sound, atol=1e-6)


def test_a_codec_may_be_moved(codec):
    """Mimi's codebooks are worked out once and kept: they must move with the weights they come from."""
    wave = sounds(codec.sample_rate)[:1]
    codes = codec.encode(wave)
    moved = copy.deepcopy(codec).double()
    assert torch.allclose(moved.codebooks(), codec.codebooks().double()) and moved.codebooks().dtype == torch.float64
    assert torch.equal(moved.float().encode(wave), codes)


def test_codes_have_vectors(codec):
    vectors = codec.codebooks()
    assert vectors.shape[:2] == (codec.num_codebooks, SIZE) and vectors.shape[2] in (4, 8)
    assert len(vectors.flatten(0, 1).unique(dim=0)) == codec.num_codebooks * SIZE
    vectors.zero_()
    assert codec.codebooks().any()


def test_vectors_are_in_the_order_of_the_codes(codecs):
    codec = codecs["encodec"]
    codes = codec.encode(sounds(24_000)[:1])
    added = sum(codec.codebooks()[layer][codes[0, layer]] for layer in range(codec.num_codebooks))
    assert torch.allclose(added.T[None], codec.model.quantizer.decode(codes.transpose(0, 1)), atol=1e-6)
    split = codecs["mimi"].model.quantizer
    assert torch.equal(codecs["mimi"].codebooks()[0], split.semantic_residual_vector_quantizer.layers[0].codebook.embed)
    assert torch.equal(codecs["mimi"].codebooks()[1], split.acoustic_residual_vector_quantizer.layers[0].codebook.embed)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_codebooks(folders, codecs, kind):
    codec, few = codecs[kind], load_codec(f"hf:{folders[kind]}@2")
    wave = sounds(codec.sample_rate)[:1]
    assert few.num_codebooks == 2 and few.codebooks().shape[0] == 2
    assert torch.equal(few.encode(wave), codec.encode(wave)[:, :2])
    assert few.fingerprint != codec.fingerprint
    assert load_codec(f"hf:{folders[kind]}@{codec.num_codebooks}").fingerprint == codec.fingerprint
    for count in (0, codec.num_codebooks + 1):
        with pytest.raises(SegueError, match=f"{count} codebooks are asked for, this model has 1 to"):
            load_codec(f"hf:{folders[kind]}@{count}")


def test_their_files_are_not_refined(codec):
    wave = sounds(codec.sample_rate)[0]
    assert torch.equal(file.encode(codec, wave).codes, codec.encode(wave[None])[0])
    with pytest.raises(SegueError, match="only Segue's own codecs"):
        file.encode(codec, wave, refinement=1)


def test_a_reference_is_taken_apart(tmp_path):
    assert Reference.parse("hf:facebook/encodec_24khz") == Reference("facebook/encodec_24khz")
    assert Reference.parse("hf:kyutai/mimi@8") == Reference("kyutai/mimi", 8)
    assert str(Reference.parse("hf:kyutai/mimi@8")) == "hf:kyutai/mimi@8"
    (tmp_path / "a").mkdir()
    assert str(Reference.parse(f"hf:{tmp_path}/b/../a@3")) == f"hf:{(tmp_path / 'a').resolve()}@3"
    for text in ("hf:", "facebook/encodec_24khz", ""):
        with pytest.raises(SegueError, match="write hf:NAME"):
            Reference.parse(text)


def test_a_fingerprint_is_of_config_and_weights_and_of_nothing_else(folders, codecs, tmp_path):
    folder = copied(folders["encodec"], tmp_path)
    same = codecs["encodec"].fingerprint
    edit(folder / "config.json", transformers_version="0.0", architectures=["Other"], torch_dtype="float16")
    assert read_part(f"hf:{folder}").fingerprint == same
    edit(folder / "config.json", pad_mode="constant")
    assert read_part(f"hf:{folder}").fingerprint != same
    edit(folder / "config.json", pad_mode="reflect")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layers.0.conv.bias"][0] += 1e-3
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert read_part(f"hf:{folder}").fingerprint != same


def test_weights_under_their_names_of_old_are_understood(folders, codecs, tmp_path):
    """As in the files that the hub has."""
    folder = copied(folders["encodec"], tmp_path)
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    weights = {}
    for name, values in load_file(folder / "model.safetensors").items():
        stem = next((new for new in old if name.endswith(new)), None)
        weights[name.removesuffix(stem) + old[stem] if stem else name] = values
    assert sum(name.endswith("weight_g") for name in weights) > 5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    wave = sounds(24_000)
    assert torch.equal(load_codec(f"hf:{folder}").encode(wave), codecs["encodec"].encode(wave))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"audio_channels": 2}, "stereo"),
        ({"normalize": True}, "normalised"),
        ({"chunk_length_s": 1.0, "overlap": 0.01}, "chunks"),
        ({"model_type": "bert"}, "type 'bert'; of published codecs encodec, dac, mimi are known"),
        ({"model_type": None}, "type None"),
        ({"upsampling_ratios": "much"}, "describes no encodec model"),
        ({"num_filters": 3}, "weights and config do not fit"),
    ],
)
def test_other_models_are_refused(folders, tmp_path, changed, said):
    folder = copied(folders["encodec"], tmp_path)
    edit(folder / "config.json", **changed)
    with pytest.raises(SegueError, match=said) as caught:
        load_codec(f"hf:{folder}")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_damaged_models_are_refused(folders, tmp_path):
    folder = copied(folders["dac"], tmp_path)
    weights = load_file(folder / "model.safetensors")
    lacking = weights.pop("encoder.conv1.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SegueError, match=r"do not fit \(1 lacking, such as encoder\.conv1\.weight"):
        load_codec(f"hf:{folder}")
    save_file({**weights, "encoder.conv1.weight": lacking[:1]}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SegueError, match="do not fit"):
        load_codec(f"hf:{folder}")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SegueError, match="damaged weights file"):
        load_codec(f"hf:{folder}")
    path.rename(folder / "pytorch_model.bin")
    with pytest.raises(SegueError, match=r"no model\.safetensors in it.*never pickles"):
        load_codec(f"hf:{folder}")
    (folder / "config.json").write_text("[")
    with pytest.raises(SegueError, match="unreadable"):
        load_codec(f"hf:{folder}")
    for place, said in ((tmp_path, r"no config\.json in it"), (tmp_path / "nowhere", "no such folder")):
        with pytest.raises(SegueError, match=said):
            load_codec(f"hf:{place}")


def test_without_transformers_the_extra_is_named(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for place in (folders["dac"], "descript/dac_16khz"):
        with pytest.raises(SegueError, match=r'pip install "segue\[pretrained\]"'):
            load_codec(f"hf:{place}")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    """A hub that is not there: nothing was fetched yet, and nobody answers."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


@pytest.mark.parametrize("offline", [False, True])
def test_a_hub_out_of_reach_is_told_in_one_line(empty_cache, monkeypatch, offline):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(SegueError, match=r"hf:facebook/encodec_24khz: can't be fetched .*check the network") as caught:
        load_codec("hf:facebook/encodec_24khz@8")
    assert "hf:/path/to/folder" in str(caught.value) and "\n" not in str(caught.value)


def test_names_that_the_hub_does_not_have(empty_cache, monkeypatch):
    with pytest.raises(SegueError, match=r"hf:a/b/c: no public model of the hub; check the name"):
        load_codec("hf:a/b/c")
    files = [SimpleNamespace(rfilename="config.json"), SimpleNamespace(rfilename="pytorch_model.bin")]
    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda self, name, timeout: SimpleNamespace(siblings=files)
    )
    with pytest.raises(SegueError, match=r"no model\.safetensors in it.*never pickles"):
        Reference("some/model").file("model.safetensors")


def test_what_was_fetched_once_needs_no_network(empty_cache, folders, codecs):
    model = empty_cache / "models--some--dac"
    shutil.copytree(folders["dac"], model / "snapshots" / ("0" * 40))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0" * 40)
    codec = load_codec("hf:some/dac@3")
    assert codec.num_codebooks == 3 and codec.reference == "hf:some/dac@3"
    assert torch.equal(codec.codebooks(), codecs["dac"].codebooks()[:3])


def test_loading_changes_nothing_global(folders, capfd):
    from transformers.utils import logging

    def world():
        facts = (logging.get_verbosity(), logging.is_progress_bar_enabled(), torch.get_default_dtype())
        return (*facts, torch.is_grad_enabled(), torch.get_rng_state().sum().item())

    before = world()
    load_codec(f"hf:{folders['mimi']}")
    assert world() == before
    assert capfd.readouterr() == ("", "")
