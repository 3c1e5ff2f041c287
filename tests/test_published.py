"""Bundles, token stores and fits around a published codec: named by reference, at its own rates, never mixed up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
import torch

pytest.importorskip("transformers")

from published import KINDS, SIZE, save_model, save_models

from segue.artifact import save_part
from segue.bundle import ROLES, codec_part, load, load_codec, load_parts, save_bundle
from segue.data.corpus import tokenise
from segue.data.store import TokenStore, load_codebooks
from segue.errors import SegueError
from segue.lm.model import StageModel
from segue.lm.stage import coarse_stage, fine_stage, semantic_stage


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """One model of each kind; don't write into them."""
    return save_models(tmp_path_factory.mktemp("published"))


def test_a_codec_is_found_wherever_it_is_kept(bundle_folder, bundle, folders, tmp_path):
    ours = bundle.codec.fingerprint
    assert load_codec(bundle_folder / "codec").fingerprint == load_codec(str(bundle_folder)).fingerprint == ours
    shutil.copytree(bundle_folder / "codec", tmp_path / "run" / "artifact")
    assert load_codec(tmp_path / "run").fingerprint == ours
    with pytest.raises(SegueError, match=r"if a published codec was saved there, give hf:/"):
        load_codec(folders["dac"])
    with pytest.raises(SegueError, match="a semantic artifact, a codec was asked for"):
        load_codec(bundle_folder / "semantic")
    with pytest.raises(SegueError, match="not found"):
        load_codec(tmp_path)


def make_bundle(folder: Path, reference: str, frame_rate: float = 75.0) -> None:
    """A bundle of random parts around a published codec."""
    codec, semantic = codec_part(reference), tiny.make_semantic()
    requires = {"semantic": semantic.fingerprint, "codec": codec.fingerprint}
    books, rates = codec.config["num_codebooks"], {"codec_frame_rate": frame_rate}
    stages = {
        "semantic_stage": semantic_stage(tiny.VOCAB, crop_seconds=2.0, **rates),
        "coarse_stage": coarse_stage(tiny.VOCAB, 2, SIZE, crop_seconds=1.0, **rates),
        "fine_stage": fine_stage(tiny.VOCAB, books, 2, SIZE, crop_seconds=0.4, **rates),
    }
    parts = {"semantic": semantic.to_part({})}
    for role, stage in stages.items():
        parts[role] = StageModel(stage, tiny.TRANSFORMER, tiny.rng(0)).to_part(requires, {})
    for role, part in parts.items():
        save_part(part, folder / role)
    save_bundle(folder, "published", {**{role: folder / role for role in parts}, "codec": reference})


@pytest.fixture(scope="session")
def published(folders, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "published"
    make_bundle(folder, f"hf:{folders['encodec']}@4")
    return folder


def test_a_bundle_names_a_published_codec(published, folders):
    entry = json.loads((published / "bundle.json").read_text())["parts"]["codec"]
    reference = f"hf:{folders['encodec'].resolve()}@4"
    assert entry == {"reference": reference, "fingerprint": load_codec(reference).fingerprint}
    assert not (published / "codec").exists()
    bundle = load(published)
    assert bundle.codec.fingerprint == bundle.fingerprints["codec"] == load_codec(published).fingerprint
    assert bundle.cards["codec"]["reference"] == reference and set(bundle.cards) == set(ROLES)


def test_a_bundle_with_a_published_codec_continues_at_its_rate(published):
    bundle = load(published)
    assert bundle.sample_rate == 24_000
    prompt = tiny.sound(1.0, 3, 44_100)
    made = bundle.continue_audio(prompt, 44_100, 0.5, seed=4)
    assert made.sample_rate == 24_000 and made.wave.shape == (1, 36_000) and made.prompt_seconds == 1.0
    assert made.tokens.codes.shape == (1, 4, 75 + 39) and made.tokens.semantic.shape == (1, 25 + 13)
    assert torch.isfinite(made.wave).all()
    again = bundle.continue_audio(prompt, 44_100, 0.5, seed=3, num=2)
    assert torch.equal(again.wave[1], made.wave[0])
    known = bundle.continue_audio(tiny.sound(1.0, 3, 24_000), 24_000, 0.2)
    assert np.array_equal(known.wave[0, :23_520].numpy(), tiny.sound(1.0, 3, 24_000)[:23_520])
    codes = bundle.codec.encode(torch.from_numpy(tiny.sound(1.0, 3, 24_000))[None])
    assert torch.equal(known.tokens.codes[:, :, :75], codes)
    wave = torch.from_numpy(prompt[:12_345])
    assert bundle.reconstruct(wave).shape == wave.shape


def test_a_codec_slower_than_the_semantic_tokens_continues(folders, tmp_path):
    make_bundle(tmp_path, f"hf:{folders['mimi']}", 12.5)
    bundle = load(tmp_path)
    made = bundle.continue_audio(tiny.sound(1.0, 3), 16_000, 0.5)
    assert made.wave.shape == (1, 36_000) and torch.isfinite(made.wave).all()
    assert made.tokens.codes.shape == (1, 5, 12 + 7) and made.tokens.semantic.shape == (1, 38)
    assert made.offset_samples == 24_000 - 12 * 1920


def test_a_codec_that_changed_is_refused(published, folders, tmp_path):
    moved = Path(shutil.copytree(published, tmp_path / "bundle"))
    other = save_model("encodec", tmp_path / "other", pad_mode="constant")
    description = json.loads((moved / "bundle.json").read_text())
    entry = description["parts"]["codec"]
    for reference, said in (
        (f"hf:{other}@4", "codec has fingerprint .* put that part back"),
        (f"hf:{folders['encodec']}@5", "codec has fingerprint"),
        (f"hf:{tmp_path / 'gone'}", "no such folder"),
        (3, "has no folder and fingerprint"),
    ):
        description["parts"]["codec"] = {**entry, "reference": reference}
        (moved / "bundle.json").write_text(json.dumps(description))
        with pytest.raises(SegueError, match=said):
            load(moved)
    stated = codec_part(f"hf:{other}@4").fingerprint
    description["parts"]["codec"] = {"reference": f"hf:{other}@4", "fingerprint": stated}
    (moved / "bundle.json").write_text(json.dumps(description))
    with pytest.raises(SegueError, match=r"was trained on codec tokens of .* don't mix"):
        load_parts(moved)
    description["parts"]["semantic"] = {"reference": "hf:some/model", "fingerprint": stated}
    (moved / "bundle.json").write_text(json.dumps(description))
    with pytest.raises(SegueError, match="only a codec can be a published one"):
        load_parts(moved)


@pytest.mark.parametrize("kind", KINDS)
def test_a_corpus_is_tokenised_with_a_published_codec(folders, bundle, tmp_path, kind):
    pytest.importorskip("pyarrow")
    codec = load_codec(f"hf:{folders[kind]}")
    soundfile.write(tmp_path / "a.wav", tiny.sound(0.73, 1, 22_050), 22_050)
    tokenise([tmp_path], tmp_path / "store", bundle.semantic, codec)
    store = TokenStore.open(tmp_path / "store")
    assert store.header.codec_frame_rate == codec.frame_rate
    assert store.header.codec_fingerprint == codec.fingerprint
    frames = 20 if kind == "mimi" else 19  # a whole number of codes, 80 ms each
    assert store.semantic(0).shape == (frames,)
    assert store.codes(0).shape == (frames * codec.frame_rate / 25, codec.num_codebooks)
    assert torch.equal(load_codebooks(tmp_path / "store"), codec.codebooks())


def test_fit_takes_a_published_codec(folders, tmp_path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("sklearn")
    from test_fit import SMALL

    from segue.config import override
    from segue.fit import fit
    from segue.parts import SoundData
    from segue.recipes import tiny as tiny_recipe

    data = SoundData((tiny.corpus(tmp_path / "sounds", 3, 2.0),))
    recipe = override(tiny_recipe(), [word for word in SMALL if not word.startswith("codec.")])
    with pytest.raises(SegueError, match="4 codebooks, but this recipe needs 5 or more"):
        fit(data, recipe, tmp_path / "mine", codec=f"hf:{folders['encodec']}@4")
    bundle = load(fit(data, recipe, tmp_path / "mine", codec=f"hf:{folders['encodec']}@5"))
    assert not (tmp_path / "mine" / "codec").exists() and bundle.codec.num_codebooks == 5
    made = bundle.continue_audio(tiny.sound(0.5), 16_000, 0.2)
    assert made.wave.shape == (1, 16_800) and made.sample_rate == 24_000
