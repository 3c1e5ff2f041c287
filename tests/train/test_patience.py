"""Early stopping: the run ends once the held-out loss stops falling, with the weights of its lowest, killed or not."""

from __future__ import annotations

import dataclasses
import json

import pytest
from arithmetic import Slope

from segue.errors import SegueError
from segue.train import state
from segue.train.loop import TrainConfig, run
from segue.train.patience import Patience

CONFIG = TrainConfig(steps=40, batch_size=2, validate_every=2, validate_batches=1, checkpoint_every=7, patience=3)


class Valley(Slope):
    """Its value is the number of steps done, and its held-out loss is lowest after a given one."""

    def __init__(self, bottom: int) -> None:
        super().__init__()
        self.bottom = bottom

    def step(self, batch, rng, learning_rate) -> dict[str, float]:
        self.value += 1
        return {"loss": 1.0}

    def validate(self, batch, rng) -> dict[str, float]:
        return {"loss": 1.0 + abs(float(self.value) - self.bottom) / 100}


def go(training, folder, config=CONFIG, watch=lambda event: None):
    nothing = lambda k, rows=None: 0.0  # noqa: E731
    return run(training, nothing, nothing, config, folder, {"train": dataclasses.asdict(config)}, watch)


def kinds(folder) -> list[tuple[int, str]]:
    return [(line["step"], line["kind"]) for line in map(json.loads, (folder / "log.jsonl").read_text().splitlines())]


def test_it_ends_after_so_many_validations_with_the_weights_of_the_lowest(tmp_path):
    training = Valley(bottom=10)
    spent = go(training, tmp_path)
    assert spent.steps == 10 and float(training.value) == 10
    assert max(step for step, _ in kinds(tmp_path)) == 16 and kinds(tmp_path)[-1] == (16, "ended")
    note = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["note"]
    assert note == "the held-out loss has not fallen below 1 for 3 validations; the weights of step 10 are kept"


def test_the_lowest_is_kept_also_at_the_last_step_and_of_two_alike_the_first(tmp_path):
    training = Valley(bottom=37)  # 36 and 38 are as near
    assert go(training, tmp_path).steps == 36 and float(training.value) == 36
    assert "ended" not in {kind for _, kind in kinds(tmp_path)}


def test_without_patience_the_last_weights_are_kept(tmp_path):
    training = Valley(bottom=10)
    assert go(training, tmp_path, dataclasses.replace(CONFIG, patience=0)).steps == 40 and float(training.value) == 40
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000035", "step-00000040"]


@pytest.mark.parametrize("killed", [1, 9, 10, 11, 15, 16])
def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path, killed):
    def watch(event) -> None:
        if event.kind == "train" and event.step == killed:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        go(Valley(bottom=10), tmp_path / "killed", watch=watch)
    training = Valley(bottom=10)
    assert go(training, tmp_path / "killed").steps == 10 and float(training.value) == 10
    go(Valley(bottom=10), tmp_path / "unbroken")
    assert kinds(tmp_path / "killed") == kinds(tmp_path / "unbroken")


def test_asked_again_it_does_nothing_and_with_more_patience_it_goes_on(tmp_path):
    go(Valley(bottom=10), tmp_path)
    steps, again = [], Valley(bottom=10)
    assert go(again, tmp_path, watch=lambda event: steps.append(event.step)).steps == 10 and float(again.value) == 10
    assert steps == []
    assert go(Valley(bottom=10), tmp_path, dataclasses.replace(CONFIG, patience=5)).steps == 10
    assert kinds(tmp_path)[-1] == (20, "ended")


def test_the_checkpoint_of_the_lowest_is_not_dropped(tmp_path):
    go(Valley(bottom=4), tmp_path, dataclasses.replace(CONFIG, patience=9, checkpoint_every=1))
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000004", "step-00000021", "step-00000022"]


def test_without_patience_any_more_the_last_weights_are_kept(tmp_path):
    go(Valley(bottom=10), tmp_path)
    training = Valley(bottom=10)
    assert go(training, tmp_path, dataclasses.replace(CONFIG, patience=0)).steps == 40 and float(training.value) == 40


def test_a_lowest_that_is_lost_is_found_again(tmp_path):
    config = dataclasses.replace(CONFIG, steps=13, checkpoint_every=1, patience=9)
    go(Valley(bottom=12), tmp_path, config)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000012", "step-00000013"]
    for path in tmp_path.glob("step-*"):
        (path / "state.safetensors").write_bytes(b"")
    kept = Valley(bottom=12)
    kept.value += 11
    patience = {"lowest": 1.02, "lowest_step": 10, "waited": 0}  # its checkpoint went when 12 was lower
    state.save(tmp_path, 11, {"training": kept.state_dict(), "seconds": 1.0, "patience": patience}, keep=9)
    training = Valley(bottom=12)
    with pytest.warns(UserWarning, match="passed over"):
        assert go(training, tmp_path, config).steps == 12
    assert float(training.value) == 12


def test_what_is_no_number_is_never_the_lowest():
    patience = Patience(3)
    assert patience.is_lowest(2, 1.0) and not patience.is_lowest(4, float("nan")) and not patience.is_lowest(6, 1.0)
    assert patience.lowest_step == 2 and not patience.is_over
    assert patience.is_lowest(8, 0.5) and patience.lowest_step == 8
    lost = Patience(2)
    assert not lost.is_lowest(2, float("nan")) and not lost.is_lowest(4, float("nan")) and lost.is_over
    assert lost.note == "no held-out loss of 2 validations was a number; the last weights are kept"
    again = Patience(2)
    again.load_state_dict(lost.state_dict())
    assert again.is_over and again.lowest_step is None


def test_patience_needs_something_to_go_by(tmp_path):
    with pytest.raises(SegueError, match=r"train\.patience 3: no held-out data to go by; name some with --valid"):
        run(Valley(bottom=4), lambda k, rows=None: 0.0, None, CONFIG, tmp_path, {})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SegueError, match=r"train\.patience -1: a number from 0 on"):
        TrainConfig(patience=-1)


def test_without_a_limit_nothing_is_lowest():
    patience = Patience(0)
    assert not patience.is_lowest(1, 2.0) and not patience.is_lowest(2, 3.0) and not patience.is_over
    assert patience.lowest_step is None
