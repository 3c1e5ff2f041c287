"""Resume is exact: real trainings, killed ten times at random moments, end in the very bits of unbroken ones."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

KINDS = ("codec", "semantic", "lm", "parallel")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, child_environment) -> Path:
    """`killed/` and `unbroken/`; run with -s to see when it was killed."""
    folder, seed = tmp_path_factory.mktemp("kills"), random.SystemRandom().randrange(1000)
    command = [sys.executable, Path(__file__).with_name("kills.py"), folder, str(seed)]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, timeout=300)
    print(f"\nseed {seed}\n{done.stdout}")
    assert done.returncode == 0, (seed, done.stdout, done.stderr[-2000:])
    assert done.stdout.count("kill ") == 10
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_all_other_state_are_equal_bit_for_bit(runs, kind):
    killed, unbroken = (runs / name / kind / "step-00000024" for name in ("killed", "unbroken"))
    ours, theirs = load_file(killed / "state.safetensors"), load_file(unbroken / "state.safetensors")
    assert ours.keys() == theirs.keys() and len(ours) > 20
    for name, value in theirs.items():
        assert ours[name].numpy().tobytes() == value.numpy().tobytes(), name
    plain = [json.loads((folder / "state.json").read_text())["state"] for folder in (killed, unbroken)]
    assert without_times(plain[0]) == without_times(plain[1])


def without_times(packed):
    return [pair for pair in packed["dict"] if pair[0] != "seconds"]


@pytest.mark.parametrize("kind", KINDS)
def test_logged_losses_are_equal(runs, kind):
    def losses(name: str) -> list[dict]:
        lines = map(json.loads, (runs / name / kind / "log.jsonl").read_text().splitlines())
        return [{key: value for key, value in line.items() if key not in ("seconds", "speed")} for line in lines]

    assert losses("killed") == losses("unbroken")
    assert [line["step"] for line in losses("killed") if line["kind"] == "train"] == list(range(1, 25))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_half_written_is_left(runs, kind):
    assert [path for path in (runs / "killed" / kind).rglob("*") if path.name.endswith((".part", ".old"))] == []
