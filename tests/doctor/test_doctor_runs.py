"""The doctor on runs: why one was stopped, what its checkpoints are worth, and its part on held-out sound."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import tiny
import torch

from segue import parts, recipes
from segue.artifact import Part, artifact_folder, load_part
from segue.config import to_disk
from segue.data.corpus import tokenise
from segue.doctor import heldout
from segue.doctor.effort import Effort
from segue.doctor.examine import examine, kind_of_target
from segue.doctor.runs import differences, findings_on_run, read_run
from segue.errors import SegueError
from segue.parts import SoundData
from segue.train import loop
from segue.train.fabric import alone

QUICK = Effort(math.inf, quick=True)


class Runaway:
    """A training whose commitment loss runs away from some step on."""

    unit = "tokens"

    def __init__(self, calm: int, value: float = math.inf) -> None:
        self.world, self.calm, self.value, self.steps = alone(), calm, value, 0

    def prepare(self, batches) -> None: ...

    def amount(self, batch) -> tuple[float, float]:
        return 1.0, 1.0

    def step(self, batch, rng, learning_rate) -> dict[str, float]:
        self.steps += 1
        away = self.value if self.steps > self.calm else 0.1
        return {"loss": 1.0 + (away if math.isfinite(away) else 0.0), "mel": 0.9, "commitment": away}

    def validate(self, batch, rng) -> dict[str, float]:
        return {"loss": 1.0}

    def state_dict(self):
        return {"steps": self.steps, "weight": torch.ones(2)}

    def load_state_dict(self, kept) -> None:
        self.steps = kept["steps"]

    def export(self, card) -> Part:
        return Part("codec", {}, {"weight": torch.ones(2)}, card=card)


def go(folder, training, steps: int = 400) -> None:
    recipe = recipes.tiny().codec
    config = dataclasses.replace(recipe.train, steps=steps, checkpoint_every=50, validate_every=100, log_every=10)
    describe = {"recipe": to_disk(dataclasses.replace(recipe, train=config)), "data": ["x"]}
    loop.run(training, lambda step, rows=None: 0.0, lambda k, rows=None: 0.0, config, folder, describe)


def on_run(folder):
    return {finding.subject.removeprefix("codec: "): finding for finding in findings_on_run(read_run(folder))}


@pytest.mark.parametrize(
    ("value", "about"), [(math.nan, "step 120: commitment is nan"), (50.0, "most of all commitment")]
)
def test_a_run_that_diverged_names_the_cause_afterwards(tmp_path, value, about):
    with pytest.raises(SegueError, match=about):
        go(tmp_path, Runaway(120, value))
    finding = on_run(tmp_path)["run"]
    assert finding.verdict == "bad" and about in finding.meaning and "learning_rate" in finding.remedy
    assert kind_of_target(str(tmp_path)) == "run"
    go(tmp_path, Runaway(1000, value))
    assert on_run(tmp_path)["run"].verdict == "ok"
    assert "stopped" not in (tmp_path / "log.jsonl").read_text()


def test_checkpoints_that_are_damaged_are_told(tmp_path):
    go(tmp_path, Runaway(1000))
    assert on_run(tmp_path)["checkpoints"].figures == {"newest_step": 400, "damaged": 0}
    weights = tmp_path / "step-00000400" / "state.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2])
    finding = on_run(tmp_path)["checkpoints"]
    assert finding.verdict == "warn" and "from step 350" in finding.meaning
    (tmp_path / "step-00000350" / "state.json").write_text("{")
    assert on_run(tmp_path)["checkpoints"].verdict == "bad"


@pytest.mark.parametrize(
    ("figure", "value", "verdict"),
    [("waiting", 0.3, "warn"), ("padding", 0.4, "warn"), ("peak_share", 0.01, "warn"), ("peak_share", 0.5, "ok")],
)
def test_speed_is_judged(tmp_path, figure, value, verdict):
    go(tmp_path, Runaway(1000), 20)
    speed = {"tokens_per_second": 1000.0, "waiting": 0.0, "padding": 0.02, "peak_share": 0.6, figure: value}
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    lines = [{**line, "speed": speed} if line["kind"] == "train" else line for line in lines]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    finding = on_run(tmp_path)["speed"]
    assert finding.verdict == verdict
    assert f"{value:.0%}" in finding.meaning


def test_a_folder_that_is_no_run_of_ours_is_refused(tmp_path):
    (tmp_path / "log.jsonl").write_text("")
    (tmp_path / "config.json").write_text('{"a": 1}')
    with pytest.raises(SegueError, match="no run of segue train"):
        read_run(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A codec, a semantic tokenizer, tokens and a coarse stage, each a few steps of tiny sizes."""
    folder = tmp_path_factory.mktemp("runs")
    sound = tiny.corpus(folder / "sound", 6, 3.0)
    recipe = tiny.recipe()

    def short(part, seconds: float):
        train = dataclasses.replace(
            part.train, steps=6, batch_size=2, crop_seconds=seconds, validate_every=2, validate_batches=1, log_every=1
        )
        return dataclasses.replace(part, train=train)

    data = SoundData((sound,), valid=(sound,))
    codec = short(dataclasses.replace(recipe.codec, objective=tiny.OBJECTIVE), 0.32)
    parts.train_codec(codec, data, folder / "codec")
    semantic = dataclasses.replace(short(recipe.semantic, 1.0), cluster_batches=4)
    parts.train_semantic(semantic, data, folder / "semantic")
    tokens = folder / "tokens"
    from segue.bundle import codec_from_part
    from segue.semantic.tokenizer import SemanticTokenizer

    models = codec_from_part(load_part(artifact_folder(folder / "codec"), "codec"))
    tokenizer = SemanticTokenizer.from_part(load_part(artifact_folder(folder / "semantic"), "semantic"))
    tokenise([sound], tokens, tokenizer, models)
    parts.train_stage("coarse", short(recipe.coarse_stage, 1.0), 4, tokens, tokens, folder / "coarse")
    return folder


@pytest.mark.parametrize(
    ("name", "data", "subjects"),
    [
        ("codec", "sound", {"codec: run", "codec: codebooks", "codec: one batch", "codec: checkpoints"}),
        ("semantic", "sound", {"semantic: run", "semantic: tokens", "semantic: one batch"}),
        ("coarse", "tokens", {"coarse stage: prompt", "coarse stage: semantic tokens", "coarse stage: one batch"}),
    ],
)
def test_a_finished_run_is_asked_on_held_out_sound(trained, name, data, subjects):
    effort = Effort(5.0)
    findings = list(examine(str(trained / name), recipes.tiny(), [trained / data], effort=effort))
    assert subjects <= {finding.subject for finding in findings}
    assert all(finding.meaning for finding in findings)


def test_a_stage_without_tokens_has_its_log_alone_looked_at(trained):
    findings = list(examine(str(trained / "coarse"), recipes.tiny(), effort=QUICK))
    held = next(finding for finding in findings if finding.subject == "held-out sound")
    assert held.verdict == "warn" and "--data STORE" in held.remedy
    assert not any("prompt" in finding.subject for finding in findings)


def test_tokens_of_other_tokenizers_are_refused(trained, tmp_path, bundle):
    tokenise([trained / "sound"], tmp_path / "other", bundle.semantic, bundle.codec)
    with pytest.raises(SegueError, match="tokens of the semantic"):
        list(examine(str(trained / "coarse"), recipes.tiny(), [tmp_path / "other"], effort=QUICK))
    with pytest.raises(SegueError, match="asked about sound"):
        list(examine(str(trained / "codec"), recipes.tiny(), [tmp_path / "other"], effort=QUICK))


def test_settings_that_differ_from_the_reference_are_named(trained):
    found = differences(read_run(trained / "coarse"))
    assert {"model.width", "train.batch_size", "train.crop_seconds"} <= set(found)
    assert "train.steps" not in found


def test_held_out_sound_that_can_not_be_read_is_counted(tmp_path):
    folder = tiny.corpus(tmp_path / "sound", 3, 2.0)
    (folder / "bad.wav").write_bytes(b"no sound")
    found = heldout.held_out([folder], 0)
    with pytest.warns(UserWarning, match=r"1 of 4 recordings can't be used, such as .*bad\.wav"):
        assert len(found.waves(16_000, Effort(60.0))) == 3
