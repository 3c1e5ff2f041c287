"""Clustering a trained encoder of Segue's own anew: as before to the bit, another block, and what is refused."""

from __future__ import annotations

import pytest
import tiny
import torch

from segue.artifact import load_part, save_part
from segue.tokenizers import load_semantic

ENCODER = ["mel_bands=16", "width=16", "contrastive_depth=1", "masked_depth=1", "heads=2", "feedforward=1"]
ENCODER += ["conv_width=3", "attention_frames=10"]
OBJECTIVE = ["entries=8", "codebooks=1", "codebook_size=16", "contrastive_width=8", "projection_width=4"]
SMALL = [f"model.tokenizer.encoder.{size}" for size in ENCODER] + [f"model.objective.{size}" for size in OBJECTIVE]
SMALL += ["train.steps=3", "train.warmup_steps=1"]
CLUSTERS = ["model.tokenizer.vocab_size=8", "cluster_batches=2", "train.crop_seconds=1", "train.batch_size=2"]


def sets(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


@pytest.fixture
def trained(cli, tmp_path):
    """Sound, and a semantic training of two blocks on it."""
    sound = tiny.corpus(tmp_path / "sound", 3, 1.0)
    changes = sets(*SMALL, *CLUSTERS, "model.tokenizer.layer=1")
    made = cli("train", "semantic", "--data", sound, "--out", tmp_path / "run", *changes, "--device", "cpu")
    assert made.code == 0, made.err
    return sound, tmp_path / "run"


def test_as_it_was_clustered_it_is_the_same_tokenizer(cli, trained, tmp_path):
    sound, run = trained
    made = cli(
        *("train", "semantic", "--encoder", run, "--data", sound, "--out", tmp_path / "again", *sets(*CLUSTERS)),
        *("--device", "cpu", "--licence", "CC0"),
    )
    assert made.code == 0, made.err
    again = load_part(tmp_path / "again" / "artifact")
    assert again.fingerprint == load_semantic(run).fingerprint
    assert again.card["encoder_of"] == again.fingerprint and again.card["steps"] == 3, "the encoder's training"
    assert again.card["licence"] == "CC0" and again.card["clusters"]["frames"] == 100


def test_a_lower_block_with_other_clusters(cli, trained, tmp_path):
    sound, run = trained
    other = sets(*CLUSTERS, "model.tokenizer.vocab_size=6", "model.tokenizer.angular=true")
    other += sets("model.tokenizer.centre_frames=0")
    made = cli("train", "semantic", "--encoder", f"{run}@1", "--data", sound, "--out", tmp_path / "low", *other)
    assert made.code == 0, made.err
    before, low = load_semantic(run), load_semantic(tmp_path / "low")
    assert (low.config.layer, low.vocab_size, low.config.angular, low.config.centre_frames) == (0, 6, True, 0)
    wave = tiny.waves(1, 1.0)
    assert torch.equal(low.activations(wave[0])[0], before.activations(wave[0])[0])
    tokens = low.encode(wave)
    assert int(tokens.max()) < 6 and len(tokens.unique()) > 1


def test_a_bundle_names_its_encoder(cli, tmp_path):
    sound = tiny.corpus(tmp_path / "sound", 3, 1.0)
    asked = ["--data", sound, "--out", tmp_path / "made", *sets(*CLUSTERS), "--device", "cpu"]
    assert cli("train", "semantic", "--encoder", "speech@1", *asked).code == 0
    assert load_semantic(tmp_path / "made").config.recurrent is not None


def test_what_is_refused(cli, trained, tmp_path):
    sound, run = trained
    asked = ["--data", sound, "--out", tmp_path / "made", *sets(*CLUSTERS)]

    def refused(encoder: object) -> str:
        told = cli("train", "semantic", "--encoder", encoder, *asked)
        assert told.code == 2 and not (tmp_path / "made" / "artifact").exists()
        assert len(told.err.strip().splitlines()) == 1, told.err
        return told.err

    assert "block 3 is asked for, it has 1 to 2" in refused(f"{run}@3")
    assert "block 0 is asked for" in refused(f"{run}@0")
    assert str(tmp_path / "nothing") in refused(tmp_path / "nothing")
    save_part(tiny.make_codec().to_part({}), tmp_path / "codec")
    assert "semantic" in refused(tmp_path / "codec")
    first = cli("train", "semantic", "--encoder", run, "--data", sound, "--out", tmp_path / "first", *sets(*CLUSTERS))
    again = cli("train", "semantic", "--encoder", run, "--data", sound, "--out", tmp_path / "first", *sets(*CLUSTERS))
    assert first.code == 0 and again.code == 2 and "there is a tokenizer already" in again.err
