"""What a run writes of itself: lines, TensorBoard's curves, Weights & Biases; and what a terminal shows of it."""

from __future__ import annotations

import io
import json
import pathlib
import sys
import types

import pytest
from rich.console import Console

from segue import terminal
from segue.errors import SegueError
from segue.train import logs
from segue.train.logs import Event

SPEED = {
    "tokens_per_second": 12345.678,
    "step_seconds": 2.0,
    "padding": 0.0123456,
    "waiting": 0.2,
    "gflop_per_second": 61.25,
    "peak_share": 0.425,
}


def event(step: int, kind: str = "train", **losses: float) -> Event:
    return Event(step, 100, kind, losses or {"loss": 1.5}, 7.25, SPEED)


def curves(folder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    return {tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_lines_and_curves(tmp_path):
    with logs.opened(tmp_path, 0, {}) as opened:
        for one in (event(20, loss=1.5, mel=0.25), event(20, "valid"), event(40)):
            for log in opened:
                log.write(one)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["kind"], line["loss"]) for line in lines] == [
        (20, "train", 1.5),
        (20, "valid", 1.5),
        (40, "train", 1.5),
    ]
    assert lines[0]["mel"] == 0.25 and lines[0]["speed"]["padding"] == 0.01235 and "speed" not in lines[1]
    found = curves(tmp_path)
    assert found["train/loss"] == [(20, 1.5), (40, 1.5)] and found["valid/loss"] == [(20, 1.5)]
    assert found["train/mel"] == [(20, 0.25)] and found["speed/gflop_per_second"][0] == (20, 61.25)


def test_a_resumed_run_drops_the_lines_and_the_curves_past_its_step(tmp_path):
    for start, loss in ((0, 1.0), (20, 2.0)):
        with logs.opened(tmp_path, start, {}) as opened:
            for step in (20, 40, 60):
                if step > start:
                    for log in opened:
                        log.write(event(step, loss=loss))
    assert curves(tmp_path)["train/loss"] == [(20, 1.0), (40, 2.0), (60, 2.0)]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(20, 1.0), (40, 2.0), (60, 2.0)]


def test_without_tensorboard_it_says_so_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with (
        pytest.warns(UserWarning, match=r"tensorboard is not installed.*segue\[train\]"),
        logs.opened(tmp_path, 0, {}) as opened,
    ):
        for log in opened:
            log.write(event(1))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1 and not (tmp_path / "tensorboard").exists()


def test_wandb_is_the_same_run_after_a_stop(tmp_path, monkeypatch):
    begun, logged, finished = [], [], []
    run = types.SimpleNamespace(
        log=lambda values, step: logged.append((step, values)), finish=lambda: finished.append(1)
    )
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **more: (begun.append(more), run)[1]))
    for step in (0, 20):
        with logs.opened(tmp_path, step, {"steps": 3}, wandb="voices") as opened:
            for log in opened:
                log.write(event(step + 1))
    assert begun[0] == begun[1] and begun[0]["project"] == "voices" and begun[0]["config"] == {"steps": 3}
    assert [step for step, _ in logged] == [1, 21] and logged[0][1]["train/loss"] == 1.5 and len(finished) == 2


def test_wandb_that_is_missing_is_told_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SegueError, match="--wandb: wandb is not installed"), logs.opened(tmp_path, 0, {}, wandb="x"):
        pass


def shown(monkeypatch, is_terminal: bool, width: int = 150) -> str:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=out, force_terminal=is_terminal, width=width, highlight=False))
    with terminal.bars() as progress:
        told = terminal.train_bar(progress, "coarse stage")
        for one in (event(61, loss=3.25), event(62, loss=3.125), event(62, "valid", loss=3.5), event(62, "checkpoint")):
            told(one)
    return out.getvalue()


def test_a_terminal_shows_loss_speed_and_time_left(monkeypatch):
    text = shown(monkeypatch, True)
    for part in ("coarse stage", "62/100", "loss 3.125", "held out 3.500", "12,346 tokens/s", "61.2 GFLOP/s (42%"):
        assert part in text, (part, text)
    assert "20% waiting for data" in text


def test_without_a_terminal_there_is_a_line_a_validation(monkeypatch):
    lines = shown(monkeypatch, False, 400).strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("coarse stage: step 62/100  loss 3.125  held out 3.500")
    assert lines[0].endswith("0:00:07 done, 0:01:16 left")


def test_torn_lines_are_passed_over_and_a_full_disk_is_one_line(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "kind": "train"}\n{"step": 2, "speed": {"a": 1}\n[3]\n')
    assert [line["step"] for line in logs.complete_lines(path)] == [1]
    lines = logs.JsonLines(path, 5)
    lines.write(event(3))
    assert [line["step"] for line in logs.complete_lines(path)] == [1, 3]
    lines.path = pathlib.Path("/dev/full")
    with pytest.raises(SegueError, match="/dev/full: can't be written"):
        lines.write(event(4))
