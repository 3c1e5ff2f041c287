"""Published encoders behind the semantic seam: small random ones on disk, in step with time, and refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import torch

pytest.importorskip("transformers")

import huggingface_hub
import transformers
from published import ENCODERS, make_tokenizer, save_encoder, save_model
from safetensors.torch import load_file, save_file

from segue.artifact import load_part, save_part
from segue.bundle import load_codec
from segue.data.aligned import encode_aligned
from segue.errors import SegueError
from segue.semantic.pretrained import PretrainedEncoder, PretrainedTokenizer
from segue.tokenizers import load_semantic, semantic_from_part

KINDS = list(ENCODERS)


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """One encoder of each kind; don't write into them."""
    place = tmp_path_factory.mktemp("encoders")
    return {kind: save_encoder(kind, place / kind) for kind in KINDS}


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory) -> dict[str, PretrainedTokenizer]:
    place = tmp_path_factory.mktemp("tokenizers")
    return {kind: make_tokenizer(kind, place / kind) for kind in KINDS}


def sounds(seconds: float, rate: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(tiny.sound(seconds, seed, rate))


@pytest.mark.parametrize("kind", KINDS)
def test_facts(kind, tokenizers):
    tokenizer = tokenizers[kind]
    assert tokenizer.hop_length == 320
    assert tokenizer.sample_rate == (24_000 if kind == "mert_model" else 16_000)
    assert tokenizer.frame_rate == tokenizer.sample_rate / 320 and tokenizer.vocab_size == 16
    tokens = tokenizer.encode(sounds(2.0, tokenizer.sample_rate)[None])
    assert tokens.shape == (1, 2 * tokenizer.sample_rate // 320) and len(tokens.unique()) > 4


@pytest.mark.parametrize("kind", ["hubert", "wavlm", "wav2vec2"])
def test_blocks_are_those_of_transformers(kind, folders):
    """Every block but the last, whose output some models norm once more: numbered as `hidden_states` are."""
    name, _, sound = ENCODERS[kind]
    model = getattr(transformers, f"{name}Model").from_pretrained(folders[kind]).eval()
    wave = sounds(0.5, 16_000)
    given = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt() if sound["do_normalize"] else wave
    with torch.no_grad():
        padded = torch.nn.functional.pad(given, (40, 40))[None]  # a frame sees 400 samples, and stands for 320 of them
        states = model(padded, output_hidden_states=True).hidden_states
    ours = PretrainedEncoder(f"hf:{folders[kind]}").activations(wave)
    assert len(ours) == 3
    for block in (1, 2):
        assert torch.allclose(ours[block - 1], states[block][0], atol=1e-5)
    assert not torch.allclose(ours[0], ours[1], atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_out_blocks_above_changes_nothing_below(kind, folders):
    encoder, cut = PretrainedEncoder(f"hf:{folders[kind]}"), PretrainedEncoder(f"hf:{folders[kind]}@2")
    wave = sounds(0.5, encoder.sample_rate)
    whole, part = encoder.activations(wave), cut.activations(wave)
    assert len(whole) == 3 and len(part) == 2 and torch.equal(whole[1], part[1])
    assert encoder.fingerprint == cut.fingerprint


@pytest.mark.parametrize("kind", ["wavlm", "wav2vec2"])
def test_what_a_block_is_given_of_a_click_is_centred_on_its_frame(kind, folders):
    """Of the kinds here these two do not even out a whole row before they look at it, or can be kept from it."""
    encoder = PretrainedEncoder(f"hf:{folders[kind]}@1")
    encoder._normalise = False
    heard: list[torch.Tensor] = []
    encoder.model.feature_projection.register_forward_pre_hook(lambda module, given: heard.append(given[0][0]))
    quiet = 1e-3 * sounds(0.5, encoder.sample_rate)
    for frame, inside in ((3, 160), (7, 45), (11, 275)):
        click = quiet.clone()
        click[frame * 320 + inside] += 1.0
        heard.clear()
        encoder.activations(quiet)
        encoder.activations(click)
        assert heard[0].shape[0] == 25
        touched = ((heard[1] - heard[0]).abs().sum(-1) > 0).nonzero()[:, 0].tolist()
        assert touched == [frame]  # 40 samples on either side are shared with a neighbour


def test_long_rows_are_encoded_in_pieces(tokenizers):
    tokenizer = tokenizers["wav2vec2"]
    wave = sounds(3.0, 16_000)[None]
    whole = tokenizer.encode(wave)
    encoder = tokenizer.encoder
    chunk, context = encoder.chunk_frames, encoder.context_frames
    try:
        encoder.chunk_frames, encoder.context_frames = 40, 60
        pieces = tokenizer.encode(wave)
        encoder.context_frames = 0
        cut = tokenizer.encode(wave)
    finally:
        encoder.chunk_frames, encoder.context_frames = chunk, context
    assert pieces.shape == whole.shape == cut.shape
    assert (pieces == whole).float().mean() > 0.8
    assert (pieces == whole).float().mean() >= (cut == whole).float().mean()


def test_tokens_stay_in_step_with_a_codec(tokenizers, tmp_path):
    """50 Hz beside 50 Hz; MERT's 75 Hz never meet those, and fit EnCodec's."""
    codec = tiny.make_codec()
    tokens, codes = encode_aligned(sounds(1.01, 16_000), tokenizers["hubert"], codec)
    assert (len(tokens), codes.shape[1]) == (51, 51)
    mert = tokenizers["mert_model"]
    with pytest.raises(SegueError, match="codes at 50 Hz and semantic tokens at 75 Hz never share"):
        encode_aligned(sounds(1.0, 24_000), mert, codec, sounds(1.0, 16_000))
    encodec = load_codec(f"hf:{save_model('encodec', tmp_path / 'encodec')}")
    tokens, codes = encode_aligned(sounds(1.01, 24_000), mert, encodec)
    assert (len(tokens), codes.shape[1]) == (76, 76)


def test_an_artifact_names_its_encoder(tokenizers, tmp_path):
    tokenizer = tokenizers["wavlm"]
    save_part(tokenizer.to_part({"hours": 1}), tmp_path / "semantic")
    part = load_part(tmp_path / "semantic", "semantic")
    assert set(part.tensors) == {"mean", "std", "centroids"}
    told = part.config["pretrained"]
    assert told["reference"] == tokenizer.encoder.reference and told["block"] == 2
    again = load_semantic(tmp_path / "semantic")
    wave = sounds(1.0, 16_000)[None]
    assert again.fingerprint == tokenizer.fingerprint and torch.equal(again.encode(wave), tokenizer.encode(wave))


def test_another_encoder_than_was_clustered_is_refused(tmp_path):
    tokenizer = make_tokenizer("wavlm", tmp_path / "wavlm")
    part = tokenizer.to_part({})
    weights = load_file(tmp_path / "wavlm" / "model.safetensors")
    name = next(key for key in weights if key.endswith("final_layer_norm.weight"))
    weights[name] = weights[name] + 1
    save_file(weights, tmp_path / "wavlm" / "model.safetensors", {"format": "pt"})
    with pytest.raises(SegueError, match=r"the centroids are of .*fit them again"):
        semantic_from_part(part)
    odd = type(part)(part.kind, {"pretrained": {**part.config["pretrained"], "vocab_size": 15}}, part.tensors)
    with pytest.raises(SegueError, match="don't fit"):
        PretrainedTokenizer(tokenizer.encoder, odd)


def test_what_is_no_such_encoder_is_refused(folders, tmp_path, monkeypatch):
    with pytest.raises(SegueError, match="block 4 is asked for, this model has 1 to 3"):
        PretrainedEncoder(f"hf:{folders['hubert']}@4")
    with pytest.raises(SegueError, match="block 0 is asked for"):
        PretrainedEncoder(f"hf:{folders['hubert']}@0")
    with pytest.raises(SegueError, match="no such folder"):
        PretrainedEncoder("hf:./nothing-here@1")
    with pytest.raises(SegueError, match="it has no tokens before k-means; segue train semantic --encoder"):
        load_semantic("hf:facebook/hubert-base-ls960@9")
    config = json.loads((folders["mert_model"] / "config.json").read_text())
    for changed, message in (({"feature_extractor_cqt": True}, "constant-Q"), ({"model_type": "bert"}, "'bert'")):
        (tmp_path / "config.json").write_text(json.dumps(config | changed))
        (tmp_path / "model.safetensors").write_bytes((folders["mert_model"] / "model.safetensors").read_bytes())
        with pytest.raises(SegueError, match=message):
            PretrainedEncoder(f"hf:{tmp_path}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SegueError, match=r"can't be fetched .* check the network, or give a folder"):
        PretrainedEncoder("hf:facebook/hubert-base-ls960@9")


def test_the_command_line_clusters_an_encoder(cli, folders, tmp_path):
    sound = tiny.corpus(tmp_path / "sound", 3, 1.0)
    small = ["--set", "model.tokenizer.vocab_size=8", "--set", "cluster_batches=2", "--set", "train.crop_seconds=1"]
    asked = ["train", "semantic", "--encoder", f"hf:{folders['hubert']}@2", "--data", sound]
    made = cli(*asked, "--out", tmp_path / "run", *small, "--licence", "CC0", "--device", "cpu")
    assert made.code == 0, made.err
    first = load_semantic(tmp_path / "run")
    assert first.vocab_size == 8 and first.config.block == 2
    assert load_part(tmp_path / "run" / "artifact").card["licence"].startswith("centroids: CC0")
    cli(*asked, "--out", tmp_path / "again", *small, "--licence", "CC0", "--device", "cpu")
    assert load_semantic(tmp_path / "again").fingerprint == first.fingerprint
    store = cli("tokenize", sound, "--out", tmp_path / "store", "--semantic", tmp_path / "run")
    assert store.code == 0, store.err
