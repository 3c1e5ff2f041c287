"""The doctor on the machine: the arithmetic is that of a real step, and what does not fit is said."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
import tiny
import torch

from segue import recipes
from segue.doctor import estimate, machine
from segue.doctor.arithmetic import PARTS, Cost, cost_of
from segue.doctor.effort import Effort
from segue.doctor.findings import Finding, conclusions, worst
from segue.doctor.machine import Machine
from segue.errors import SegueError
from segue.train.loop import generator
from segue.train.throughput import Throughput

LAPTOP = Machine(torch.device("cpu"), cores=2, threads=2, memory_gb=8.0, disk_gb=100.0, gflops=100.0)


@pytest.mark.parametrize(("kind", "part"), [("codec", "codec"), ("semantic", "semantic"), ("stage", "coarse stage")])
def test_arithmetic_is_that_of_a_real_step(kind, part):
    recipe = recipes.tiny()
    one = {"codec": "codec", "semantic": "semantic", "stage": "coarse_stage"}[kind]
    short = dataclasses.replace(
        getattr(recipe, one), train=dataclasses.replace(getattr(recipe, one).train, batch_size=2, crop_seconds=0.64)
    )
    recipe = dataclasses.replace(recipe, **{one: short})
    training, batch = estimate._noise(kind, recipe, LAPTOP, 0)
    speed = Throughput(training)
    speed.count(batch, generator(0, 0, 0), 1e-4)
    counted = speed._flop * training.amount(batch)[1] / 1e9
    assert cost_of(part, recipe).gflop == pytest.approx(counted, rel=0.06)


@pytest.mark.parametrize("part", PARTS)
def test_cost_grows_with_the_batch_and_memory_shrinks_with_its_parts(part):
    recipe = tiny.recipe()
    role = part.replace(" ", "_")
    one = getattr(recipe, role)
    double = dataclasses.replace(one, train=dataclasses.replace(one.train, batch_size=2 * one.train.batch_size))
    cost, twice = cost_of(part, recipe), cost_of(part, dataclasses.replace(recipe, **{role: double}))
    assert twice.gflop == pytest.approx(2 * cost.gflop) and twice.kept_bytes == pytest.approx(2 * cost.kept_bytes)
    assert twice.weights == cost.weights > 0 and twice.bytes(2) == pytest.approx(cost.bytes())


def test_a_stage_with_windows_has_a_cost():
    """What lies within a window can't be told of tensors without values."""
    recipe = recipes.small()
    assert recipe.coarse_stage.model.window_frames
    assert cost_of("coarse stage", recipe).gflop > 1


def test_discriminators_are_counted():
    recipe = tiny.recipe()
    with_them = dataclasses.replace(recipe.codec, objective=dataclasses.replace(tiny.OBJECTIVE))
    assert cost_of("codec", dataclasses.replace(recipe, codec=with_them)).gflop > 2 * cost_of("codec", recipe).gflop


COST = Cost(gflop=10.0, weights=1_000_000, kept_bytes=4e9, batch_size=8)


def judged(place: Machine, cost: Cost = COST, wanted: bool = True) -> Finding:
    costs, shares = dict.fromkeys(PARTS, cost), {"codec": 0.5, "semantic": 0.5, "stage": 0.5}
    return estimate.estimate(place, recipes.tiny(), costs, shares, "measured", wanted)


def test_time_is_arithmetic_over_speed():
    found = judged(LAPTOP)
    steps = sum(config.steps for config in estimate.train_configs(recipes.tiny()))
    assert found.verdict == "ok" and found.figures["hours"] == pytest.approx(10 * steps / 50 / 3600)


def test_what_does_not_fit_says_how_it_would():
    tight = judged(dataclasses.replace(LAPTOP, memory_gb=3.0))
    assert tight.verdict == "warn" and "codec: --set train.accumulate=2" in tight.remedy
    none = judged(dataclasses.replace(LAPTOP, memory_gb=0.3))
    assert none.verdict == "bad" and "more memory" in none.remedy
    assert judged(dataclasses.replace(LAPTOP, memory_gb=0.3), wanted=False).verdict == "ok"


def test_years_are_too_long():
    slow = judged(dataclasses.replace(LAPTOP, gflops=0.1))
    assert slow.verdict == "warn" and "days" in slow.meaning and "GPU" in slow.remedy


def on_machine(**changes) -> dict[str, Finding]:
    found = machine.findings_on_machine(dataclasses.replace(LAPTOP, **changes))
    return {finding.subject.removeprefix("machine: "): finding for finding in found}


def test_a_machine_that_is_up_to_it_is_well(monkeypatch):
    monkeypatch.setattr(machine, "find_spec", lambda name: object())
    assert worst(on_machine().values()) == "ok"


@pytest.mark.parametrize(
    ("changes", "what", "verdict"),
    [({"threads": 9}, "threads", "warn"), ({"memory_gb": 0.5}, "memory", "bad"), ({"disk_gb": 1.0}, "disk", "warn")],
)
def test_what_is_short_is_told(changes, what, verdict):
    assert on_machine(**changes)[what].verdict == verdict


@pytest.mark.parametrize(("missing", "verdict"), [("silero_vad", "ok"), ("lightning_fabric", "warn")])
def test_packages_that_are_missing_are_named_with_their_extra(monkeypatch, missing, verdict):
    monkeypatch.setattr(machine, "find_spec", lambda name: None if name == missing else object())
    finding = on_machine()["packages"]
    assert finding.verdict == verdict and missing in finding.meaning and "pip install" in finding.remedy


def test_a_real_machine_has_memory_cores_and_speed(tmp_path):
    found = machine.look("cpu", tmp_path / "not" / "there")
    assert found.cores >= 1 and found.memory_gb > 0.1 and found.disk_gb > 0 and found.gflops > 0.1


def test_real_steps_are_timed_for_the_share(monkeypatch):
    small = tiny.recipe()
    monkeypatch.setattr(recipes, "tiny", lambda: small)
    shares = estimate.measured_shares(LAPTOP, Effort(0.1))
    assert shares.keys() == {"codec", "semantic", "stage"} and all(0 < share < 10 for share in shares.values())


def test_every_recipe_is_estimated_and_a_gpu_is_taken_for_granted(monkeypatch):
    monkeypatch.setattr(estimate, "cost_of", lambda part, recipe: COST)
    gpu = dataclasses.replace(LAPTOP, device=SimpleNamespace(type="cuda"))
    subjects = [finding.subject for finding in estimate.findings_on_time(gpu, recipes.small(), Effort(1.0))]
    assert subjects == ["machine: recipe small", "machine: recipe tiny", "machine: recipe paper"]


def test_conclusions_are_a_line_a_part():
    findings = [
        Finding("codec: learning curve", "ok", {}, "settled"),
        Finding("codec: codebooks", "ok", {}, "in use"),
        Finding("coarse stage: learning curve", "warn", {}, "still falling 3 % an epoch"),
        Finding("coarse stage: prompt", "bad", {}, "its prompt does not matter"),
        Finding("data: files", "ok", {}, "fine"),
    ]
    assert conclusions(findings) == {
        "codec": ("ok", "trained enough"),
        "coarse stage": ("bad", "its prompt does not matter; still falling 3 % an epoch"),
        "data": ("ok", "nothing wrong found"),
    }
    assert worst(findings) == "bad" and worst([]) == "ok"


def test_figures_that_are_no_numbers_stay_out_of_json():
    assert Finding("x", "ok", {"a": math.nan, "b": 1, "c": "d"}).plain()["figures"] == {"b": 1, "c": "d"}


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_an_effort_takes_some_time(seconds):
    with pytest.raises(SegueError, match="seconds"):
        Effort(seconds)
