"""A folder of sound to a bundle that continues a prompt, in one command; killed in the middle, it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import tiny

from segue.artifact import load_part
from segue.bundle import load
from segue.data.held_out import held_out
from segue.errors import SegueError
from segue.fit import fit, with_steps
from segue.parts import SoundData
from segue.recipes import tiny as tiny_recipe
from segue.train.semantic import SemanticTraining

SMALL = [
    "codec.model.codebook_size=16",
    "codec.model.code_width=4",
    "codec.model.spectral.width=16",
    "codec.model.spectral.expansion=1",
    "codec.model.spectral.encoder_depth=1",
    "codec.model.spectral.decoder_depth=1",
    "codec.objective.warm_steps=2",
    "codec.objective.adversarial_start_step=-1",
    "codec.train.crop_seconds=0.32",
    "semantic.model.tokenizer.encoder.mel_bands=16",
    "semantic.model.tokenizer.encoder.width=16",
    "semantic.model.tokenizer.encoder.contrastive_depth=1",
    "semantic.model.tokenizer.encoder.masked_depth=1",
    "semantic.model.tokenizer.encoder.heads=2",
    "semantic.model.tokenizer.layer=1",
    "semantic.model.tokenizer.vocab_size=16",
    "semantic.model.objective.entries=8",
    "semantic.model.objective.codebook_size=16",
    "semantic.cluster_batches=4",
    "semantic.train.crop_seconds=1.0",
    "semantic_stage.train.crop_seconds=2.0",
    "coarse_stage.train.crop_seconds=1.0",
    "fine_stage.train.crop_seconds=0.4",
]
for _role in ("codec", "semantic", "semantic_stage", "coarse_stage", "fine_stage"):
    SMALL += [f"{_role}.train.steps=4", f"{_role}.train.checkpoint_every=2", f"{_role}.train.batch_size=2"]
    SMALL += [f"{_role}.train.validate_batches=1"]
for _role in ("semantic_stage", "coarse_stage", "fine_stage"):
    SMALL += [f"{_role}.model.{size}" for size in ("width=16", "depth=1", "heads=2", "feedforward=16")]


def command(folder, out) -> list[str]:
    return ["fit", str(folder), "--out", str(out), *(word for value in SMALL for word in ("--set", value))]


@pytest.fixture(scope="module")
def minute(tmp_path_factory):
    """About a minute of sound: enough files for some to be held out."""
    folder = tiny.corpus(tmp_path_factory.mktemp("minute"), 24, 2.5)
    name = next(f"held{index}.wav" for index in range(999) if held_out(Path(f"held{index}.wav")))
    (folder / "clip000.wav").rename(folder / name)
    return folder


@pytest.fixture(scope="module")
def unbroken(minute, tmp_path_factory):
    """The bundle that a run without a stop makes, by the command itself."""
    out = tmp_path_factory.mktemp("fit") / "mine"
    with pytest.MonkeyPatch.context() as patch:
        from segue.cli import main

        patch.setattr(sys, "argv", ["segue", *command(minute, out)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert stop.value.code in (0, None)
    return out


def test_a_minute_of_sound_makes_a_bundle_that_goes_on(cli, unbroken, speech, tmp_path):
    out = tmp_path / "x.wav"
    outcome = cli("continue", speech, "--bundle", unbroken, "--out", out, "--prompt-seconds", "1", "--seconds", "0.5")
    assert outcome.code == 0 and soundfile.info(out).frames == 24_000, outcome
    bundle = load(unbroken)
    assert bundle.name == "mine"
    assert bundle.cards["codec"]["steps"] == 4 and 0.01 < bundle.cards["codec"]["hours"] < 60 / 3600
    assert bundle.cards["fine_stage"]["clips"] < 24
    assert (unbroken / "work" / "tokens-valid").is_dir()


def test_the_same_command_again_changes_nothing(cli, unbroken, minute, monkeypatch):
    """Nothing is trained, clustered or tokenised anew: a second k-means might fall out otherwise."""

    def never(*rest, **more):
        raise AssertionError("clustered again")

    before = load(unbroken).fingerprints
    monkeypatch.setattr(SemanticTraining, "finish", never)
    outcome = cli(*command(minute, unbroken))
    assert outcome.code == 0, outcome
    assert load(unbroken).fingerprints == before


def test_another_recipe_in_the_same_folder_is_refused(cli, unbroken, minute):
    outcome = cli(*command(minute, unbroken), "--set", "codec.train.learning_rate=0.5")
    assert outcome.code == 2 and "learning_rate" in outcome.err and outcome.err.count("\n") == 1


def test_killed_and_started_again_it_goes_on_with_what_was_made(cli, unbroken, minute, tmp_path, child_environment):
    out = tmp_path / "mine"
    process = subprocess.Popen(
        [sys.executable, "-m", "segue.cli", *command(minute, out), "--threads", "1"],
        env=child_environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while (
            not (out / "work" / "coarse_stage" / "step-00000002").is_dir()
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.002)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL and not (out / "bundle.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (out / "work" / "tokens").glob("*.parquet")}
    semantic = load_part(out / "semantic").fingerprint
    outcome = cli(*command(minute, out))
    assert outcome.code == 0, outcome
    bundle = load(out)
    assert bundle.fingerprints["codec"] == load(unbroken).fingerprints["codec"]
    assert bundle.fingerprints["semantic"] == semantic
    assert before and before == {path: path.stat().st_mtime_ns for path in before}
    assert {card["steps"] for card in bundle.cards.values()} == {4}
    assert [path for path in (out / "work").rglob(".step-*")] == []


def test_a_device_that_is_not_there_is_refused(cli, minute, tmp_path):
    outcome = cli(*command(minute, tmp_path / "mine"), "--device", "cuda:99")
    assert outcome.code == 2 and "--device cuda:99" in outcome.err and not (tmp_path / "mine").exists()


def test_it_works_in_one_process(minute, tmp_path):
    with pytest.raises(SegueError, match="one process, not 2"):
        fit(SoundData((minute,)), tiny_recipe(), tmp_path / "mine", world=SimpleNamespace(size=2))


def test_steps_factor_scales_every_training():
    scaled = with_steps(tiny_recipe(), 0.001)
    for role in ("codec", "semantic", "semantic_stage", "coarse_stage", "fine_stage"):
        steps = getattr(tiny_recipe(), role).train.steps
        assert getattr(scaled, role).train.steps == max(1, round(steps / 1000))
    assert scaled.codec.model == tiny_recipe().codec.model
    assert scaled.codec.objective.warm_steps == scaled.codec.train.steps // 2, "or codebooks would never start"
    assert with_steps(tiny_recipe(), 2).codec.objective == tiny_recipe().codec.objective
    for factor in (0, -1, float("nan"), float("inf")):
        with pytest.raises(SegueError, match="factor"):
            with_steps(tiny_recipe(), factor)
