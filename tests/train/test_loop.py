"""The loop: the rate over time, guards, and a run that was killed ending in the very weights of one that was not."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import warnings

import pytest
import torch
from arithmetic import Slope

from segue.errors import SegueError
from segue.train import state
from segue.train.loop import TrainConfig, generator, learning_rate_at, run

CONFIG = TrainConfig(
    steps=12, batch_size=2, learning_rate=1e-3, warmup_steps=3, ema_decay=0.9, validate_every=6, checkpoint_every=4
)


def go(training, folder, config=CONFIG, describe=None, watch=lambda event: None) -> float:
    given = describe or {"train": dataclasses.asdict(config)}
    return run(training, lambda step, rows=None: step / 7, lambda k, rows=None: k / 3, config, folder, given, watch)


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def timeless(folder) -> list[dict]:
    return [{key: value for key, value in line.items() if key not in ("seconds", "speed")} for line in lines(folder)]


def stop_at(step: int):
    def watch(event) -> None:
        if event.kind == "train" and event.step == step:
            raise InterruptedError

    return watch


def test_the_rate_rises_stays_and_falls():
    config = TrainConfig(steps=100, learning_rate=2.0, warmup_steps=10, cooldown_fraction=0.2)
    rates = [learning_rate_at(step, config) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (k + 1) for k in range(10)])
    assert rates[10:81] == [2.0] * 71
    assert rates[80:] == pytest.approx([0.1 * (20 - k) for k in range(20)])
    assert min(rates) > 0
    flat = TrainConfig(steps=5, learning_rate=1.0, warmup_steps=0, cooldown_fraction=0.0)
    assert [learning_rate_at(step, flat) for step in range(5)] == [1.0] * 5


def test_random_numbers_of_a_step_are_its_own():
    draws = {
        float(torch.rand(1, generator=generator(seed, step, stream)))
        for seed in (0, 1)
        for step in (0, 1, 2)
        for stream in (0, 1)
    }
    assert len(draws) == 12
    assert torch.rand(1, generator=generator(3, 4, 1)) == torch.rand(1, generator=generator(3, 4, 1))


def test_a_run_leaves_checkpoints_config_and_log(tmp_path):
    events, training = [], Slope()
    go(training, tmp_path, watch=events.append)
    assert training.prepared == 1
    assert training.rates == [learning_rate_at(step, CONFIG) for step in range(12)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock",
        "config.json",
        "log.jsonl",
        "step-00000008",
        "step-00000012",
        "tensorboard",
    ]
    assert [(line["step"], line["kind"]) for line in lines(tmp_path)] == [(6, "valid"), (12, "train"), (12, "valid")]
    assert [event.step for event in events if event.kind == "train"] == list(range(1, 13))
    assert [event.step for event in events if event.kind == "checkpoint"] == [4, 8, 12]
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 12


@pytest.mark.parametrize("count", [1, 3])
def test_the_last_checkpoints_are_kept(tmp_path, count):
    go(Slope(), tmp_path, dataclasses.replace(CONFIG, checkpoint_every=2, checkpoints_kept=count))
    kept = [f"step-{step:08d}" for step in (8, 10, 12)[3 - count :]]
    assert sorted(path.name for path in tmp_path.glob("step-*")) == kept


def test_why_it_was_stopped_is_logged_and_resuming_drops_it(tmp_path):
    with pytest.raises(SegueError, match="commitment is nan"):
        go(Slope(spoil=8), tmp_path)
    last = lines(tmp_path)[-1]
    assert (last["kind"], last["step"]) == ("stopped", 9) and "step 8: commitment is nan" in last["note"]
    go(Slope(), tmp_path)
    assert "stopped" not in {line["kind"] for line in lines(tmp_path)}


@pytest.mark.parametrize("stopped", [1, 4, 5, 11])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path, stopped):
    whole, again = Slope(), Slope()
    go(whole, tmp_path / "whole")
    with pytest.raises(InterruptedError):
        go(Slope(), tmp_path / "broken", watch=stop_at(stopped))
    go(again, tmp_path / "broken")
    assert torch.equal(again.value, whole.value)
    assert again.prepared == (1 if stopped <= 4 else 0)
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "broken")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_ends_its_step_and_leaves_a_checkpoint(tmp_path, number):
    def watch(event) -> None:
        if event.step == 5 and event.kind == "train":
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        go(Slope(), tmp_path, watch=watch)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000004", "step-00000006"]
    whole, again = Slope(), Slope()
    go(again, tmp_path)
    go(whole, tmp_path / "whole")
    assert again.rates == whole.rates[6:] and torch.equal(again.value, whole.value)


def test_log_lines_past_the_resumed_step_are_dropped(tmp_path):
    with pytest.raises(InterruptedError):
        go(Slope(), tmp_path, watch=stop_at(7))
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 7, "kind": "train", "loss": 1.0}\n{"step": 8, "kin')
    assert [line["step"] for line in map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines()[:2])] == [6, 7]
    go(Slope(), tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == [6, 12, 12]


def test_a_loss_that_is_not_finite_stops_with_its_name_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(SegueError, match=r"step 5: commitment is nan.*checkpoint is kept"):
        go(Slope(spoil=5), tmp_path)
    assert (tmp_path / "step-00000004").is_dir()
    assert state.load_newest(tmp_path)[0] == 4


def test_a_failing_batch_is_told(tmp_path):
    def batches(step: int, rows: slice | None = None) -> float:
        if step == 3:
            raise SegueError("x.wav: gone")
        return 0.0

    with pytest.raises(SegueError, match=r"x\.wav: gone"):
        run(Slope(), batches, None, CONFIG, tmp_path, {})


def test_another_config_in_the_same_folder_is_refused(tmp_path):
    go(Slope(), tmp_path)
    with pytest.raises(SegueError, match=r"train\.learning_rate=0\.001, now 0\.01"):
        go(Slope(), tmp_path, dataclasses.replace(CONFIG, learning_rate=0.01))
    with pytest.raises(SegueError, match=r"model\.width=None, now 3"):
        go(Slope(), tmp_path, describe={"train": dataclasses.asdict(CONFIG), "model": {"width": 3}})
    longer = Slope()
    go(longer, tmp_path, dataclasses.replace(CONFIG, steps=14))
    assert len(longer.rates) == 2


def test_a_run_has_its_folder_to_itself(tmp_path):
    seen = []

    def meanwhile(event) -> None:
        if event.kind == "train" and event.step == 5:
            with pytest.raises(SegueError, match="another run is writing there; wait for it"):
                go(Slope(), tmp_path)
            seen.append(event.step)

    go(Slope(), tmp_path, watch=meanwhile)
    go(Slope(), tmp_path / "other")
    assert seen == [5] and timeless(tmp_path) == timeless(tmp_path / "other")


def test_what_a_killed_run_half_wrote_goes(tmp_path):
    halves = [tmp_path / name for name in (".config.json.rrdpvs0p.part", ".log.jsonl.abc.part")]
    for half in halves:
        half.write_text("{")
    go(Slope(), tmp_path)
    assert not any(half.exists() for half in halves)


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    go(Slope(), tmp_path)
    again = Slope()
    go(again, tmp_path)
    assert again.rates == [] and float(again.value) > 0


def test_a_damaged_newest_checkpoint_falls_back_with_a_warning(tmp_path):
    whole, again = Slope(), Slope()
    go(whole, tmp_path)
    weights = tmp_path / "step-00000012" / "state.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2])
    with pytest.warns(UserWarning, match="passed over"):
        go(again, tmp_path)
    assert len(again.rates) == 4 and torch.equal(again.value, whole.value)


def test_nothing_but_damaged_checkpoints_is_an_error(tmp_path):
    go(Slope(), tmp_path)
    for name in ("step-00000008", "step-00000012"):
        (tmp_path / name / "state.json").write_text("{")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(SegueError, match="no checkpoint can be read"):
            go(Slope(), tmp_path)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    save, calls = state.save_file, []

    def fills_up(values, path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save(values, path)

    monkeypatch.setattr(state, "save_file", fills_up)
    with pytest.raises(SegueError, match="No space left on device"):
        go(Slope(), tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*step*")) == ["step-00000004"]
    assert [path for path in tmp_path.iterdir() if path.name.endswith(".part")] == []
    whole, again = Slope(), Slope()
    go(again, tmp_path)
    go(whole, tmp_path / "whole")
    assert torch.equal(again.value, whole.value)
