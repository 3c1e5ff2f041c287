"""Learning curves: what still falls, rises, diverges; and how a run stands beside the reference, both ways."""

from __future__ import annotations

import json
import math

import pytest

from segue.bundle import BUNDLED
from segue.doctor.curves import Log, curve_finding, fall_of, read_log, reference_finding, references
from segue.doctor.runs import spikes
from segue.errors import SegueError

STEPS = 1000


def log(held_out, train=None, every: int = 50) -> Log:
    """Curves as functions of the step."""
    at = range(every, STEPS + 1, every)
    valid = [{"step": step, "kind": "valid", "loss": held_out(step)} for step in at]
    lines = [{"step": step, "kind": "train", "loss": (train or held_out)(step), "gradient": 1.0} for step in at]
    return Log(lines, valid)


def settled(step: float) -> float:
    return 3 + 3 * math.exp(-step / 80)


def falling(step: float) -> float:
    return 6 * (step / 50) ** -0.1


@pytest.mark.parametrize(
    ("curve", "verdict", "about"), [(settled, "ok", "settled"), (falling, "warn", "still falling")]
)
def test_what_still_falls_is_told_from_what_has_settled(curve, verdict, about):
    finding = curve_finding("coarse stage", log(curve), STEPS)
    assert finding.verdict == verdict and about in finding.meaning


def test_the_fall_is_a_share_of_the_loss_over_a_tenth_of_the_steps():
    assert fall_of(log(lambda step: 10 - step / 1000), STEPS) == pytest.approx(0.1 / 9.2, rel=0.02)
    assert fall_of(Log(), STEPS) is None
    three = log(settled, every=333)
    assert len(three.valid) == 3 and 0 < fall_of(three, STEPS) < 0.01


def test_it_is_told_by_the_epoch_where_there_are_some():
    finding = curve_finding("coarse stage", log(lambda step: 10 - step / 1000), STEPS, epoch_steps=300)
    assert finding.figures["fall_an_epoch"] == pytest.approx(3 * finding.figures["fall_a_tenth"])
    assert finding.meaning == "still falling 3.3% an epoch"
    assert "a tenth of its steps" in curve_finding("x", log(falling), STEPS, epoch_steps=800).meaning


def test_what_is_learnt_by_heart_rises_where_it_is_held_out():
    finding = curve_finding("semantic stage", log(lambda step: 3 + step / 2000, settled), STEPS)
    assert finding.verdict == "warn" and "by heart" in finding.meaning


def test_what_rose_after_the_weights_that_are_kept_is_fine():
    valley = log(lambda step: 3 + abs(step - 600) / 2000, settled)
    assert valley.is_lowest(600) and not valley.is_lowest(550) and not Log().is_lowest(0)
    finding = curve_finding("semantic stage", valley, STEPS, kept_step=600)
    assert finding.verdict == "ok" and finding.meaning == "lowest at step 600, whose weights are kept"
    for step in (550, STEPS):
        assert curve_finding("semantic stage", valley, STEPS, kept_step=step).verdict == "warn"


def test_a_training_loss_that_rises_diverges():
    finding = curve_finding("codec", log(lambda step: 2 + max(0, step - 500) / 300), STEPS)
    assert finding.verdict == "bad" and "diverging" in finding.meaning


def test_without_validation_the_training_curve_is_taken():
    lines = log(falling)
    assert "still falling" in curve_finding("codec", Log(lines.train, []), STEPS).meaning
    assert curve_finding("codec", Log(), STEPS).verdict == "warn"


REFERENCES = {"speech": log(lambda step: 5.0 + settled(step)), "piano": log(lambda step: 4.0 + settled(step))}


@pytest.mark.parametrize(
    ("factor", "differs", "verdict", "about"),
    [
        (0.8, (), "ok", "ahead of"),
        (1.0, (), "ok", "with the reference"),
        (1.1, (), "ok", "with the reference"),
        (1.3, (), "warn", "behind"),
        (1.6, (), "bad", "far behind"),
        (1.6, ("train.batch_size",), "warn", "differs in train.batch_size"),
    ],
)
def test_a_run_stands_ahead_of_with_or_behind_the_reference(factor, differs, verdict, about):
    finding = reference_finding("x", log(lambda step: factor * (4.0 + settled(step))), differs, REFERENCES)
    assert (finding.verdict, about in finding.meaning) == (verdict, True), finding


def test_it_says_when_the_reference_was_where_the_run_is():
    run = log(lambda step: 5.0 + settled(step / 4))
    finding = reference_finding("x", run, (), {"speech": REFERENCES["speech"]})
    assert finding.figures["at_step"] == 1000 and finding.figures["reference_was_there_at_step"] == 250


def test_one_loss_that_lags_is_named():
    run = log(settled)
    other = log(settled)
    for line in (*run.valid, *other.valid):
        line["mel"] = line["loss"] * (1.5 if line in run.valid else 1.0)
    lines = [{**line, "mel": line["loss"]} for line in log(settled).valid]
    finding = reference_finding("codec", run, (), {"codec": Log([], lines)})
    assert finding.verdict == "warn" and finding.items == ("mel: 1.50 times the reference",)


def test_runs_without_common_steps_are_not_compared():
    assert reference_finding("x", log(settled), (), {}) is None
    early = Log([], [{"step": 3, "kind": "valid", "loss": 9.0}])
    assert reference_finding("x", early, (), REFERENCES) is None


@pytest.mark.parametrize("part", ["codec", "semantic", "semantic stage", "coarse stage", "fine stage"])
def test_the_references_are_there_and_each_is_with_itself(part):
    found = references(part)
    assert len(found) == (1 if part == "codec" else 2)
    for one in found.values():
        finding = reference_finding(part, one, (), {"itself": one})
        assert finding.verdict == "ok" and finding.figures["over_better_reference"] == pytest.approx(1)


@pytest.mark.parametrize(("jumps", "verdict"), [(0, "ok"), (1, "ok"), (5, "warn")])
def test_spikes_are_counted(jumps, verdict):
    one = log(settled, every=10)
    for line in one.train[30 : 30 + 12 * jumps : 12]:
        line["loss"] *= 3
        line["gradient"] = 100.0
    found = {finding.subject: finding for finding in spikes("codec", one)}
    assert found["codec: loss spikes"].verdict == found["codec: gradient spikes"].verdict == verdict
    assert found["codec: loss spikes"].figures["spikes"] == jumps


def test_a_log_is_read_even_if_a_kill_cut_it_short(tmp_path):
    lines = [{"step": 20, "kind": "train", "loss": 1.5}, {"step": 20, "kind": "valid", "loss": 1.0}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 40, "ki')
    found = read_log(tmp_path / "log.jsonl")
    assert (len(found.train), len(found.valid), found.steps, found.stopped) == (1, 1, 20, None)
    with pytest.raises(SegueError, match="no such log"):
        read_log(BUNDLED / "log.jsonl")
