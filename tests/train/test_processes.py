"""Two processes train as one does: the same losses and weights from the same global batch, whatever is shared how."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
from safetensors.torch import load_file

from segue.data.store import StoreHeader, StoreRow, TokenStoreWriter
from segue.errors import SegueError
from segue.train.fabric import Hardware
from segue.train.loop import TrainConfig

PAIRS = [(kind, how) for kind, all_of in processes.JOBS.items() for how in all_of[1:]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, child_environment) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, processes.__file__, str(free_ports(sum(map(len, processes.JOBS.values())))), folder]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def free_ports(count: int) -> int:
    """The first of so many that nobody listens to, below those that the system hands to whoever asks for any."""
    for first in random.SystemRandom().sample(range(20_000, 32_000 - count), 100):
        try:
            with contextlib.ExitStack() as held:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise AssertionError("no free ports from 20,000 to 32,000")


@pytest.mark.parametrize(("kind", "how"), PAIRS)
def test_losses_and_weights_are_those_of_one_process(trained, kind, how):
    ours, theirs = (load_file(trained / f"{kind}-{name}.safetensors") for name in (how, "one"))
    assert ours.keys() == theirs.keys() and len(ours) > 20
    apart = {name: (ours[name].double() - theirs[name].double()).abs() for name in ours}
    far = {name: float(values.max()) for name, values in apart.items() if values.numel()}
    worst = max(far, key=far.get)
    print(f"{kind} {how}: {far[worst]:.1e} at {worst}")
    assert far[worst] < 1e-5, (worst, far[worst])
    ours, theirs = (json.loads((trained / f"{kind}-{name}.json").read_text()) for name in (how, "one"))
    assert len(ours) == processes.STEPS + 2
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-5, rel=1e-5)


def test_what_is_compared_has_moved(trained):
    """Else equality would say nothing."""
    for kind in processes.JOBS:
        losses = json.loads((trained / f"{kind}-one.json").read_text())
        assert len({round(step["loss"], 4) for step in losses[: processes.STEPS]}) == processes.STEPS
    codec = json.loads((trained / "codec-one.json").read_text())
    assert "discriminator" not in codec[3] and "discriminator" in codec[4]


SMALL = ["model.width=16", "model.depth=1", "model.heads=2", "model.feedforward=16", "model.kv_heads=2"]
SMALL += ["model.embedding_width=8", "train.steps=4", "train.batch_size=4", "train.crop_seconds=1.0"]
SMALL += ["train.log_every=1", "train.warmup_steps=2", "train.learning_rate=1e-3"]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Clips of unequal length."""
    folder, draw = tmp_path_factory.mktemp("store"), np.random.default_rng(0)
    writer = TokenStoreWriter(folder, StoreHeader("s", "c", vocab_size=16, num_codebooks=5, codebook_size=16))
    for clip in range(12):
        frames = 20 + 7 * clip
        semantic, codes = draw.integers(0, 16, frames // 2 + frames % 2), draw.integers(0, 16, (5, frames))
        writer.add(StoreRow(f"{clip}", f"{clip}.wav", "", frames / 50, "", None, semantic, codes))
    writer.flush()
    return folder


def train_lm(store: Path, out: Path, *more: str) -> list[str]:
    options = [word for value in SMALL for word in ("--set", value)]
    return ["train", "lm", "--stage", "coarse", "--data", store, "--out", out, "--device", "cpu", *options, *more]


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("launcher", ["torchrun", "itself"])
def test_the_command_line_trains_with_two_processes(cli, store, tmp_path, child_environment, launcher):
    """By torchrun with DDP, and started by itself with FSDP."""
    assert cli(*train_lm(store, tmp_path / "one")).code == 0
    command = [*train_lm(store, tmp_path / "two"), "--set", "train.accumulate=2"]
    start = ["-m", "segue.cli", *command, "--devices", "2", "--strategy", "fsdp"]
    if launcher == "torchrun":
        meeting = ["--nproc-per-node", "2", "--master-port", str(free_ports(1))]
        start = ["-m", "torch.distributed.run", *meeting, "-m", "segue.cli", *command]
    done = subprocess.run([sys.executable, *start], env=child_environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("artifact: done") == 1, done.stderr
    assert (tmp_path / "two" / "artifact" / "part.json").is_file() and (tmp_path / "two" / "tensorboard").is_dir()
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert [line["step"] for line in two] == [1, 2, 3, 4]
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], abs=2e-5)
    longer = [*command, "--resume", "--set", "train.steps=6"]
    assert cli(*longer).code == 0 and [line["step"] for line in lines(tmp_path / "two")] == [1, 2, 3, 4, 5, 6]
    assert 0 <= two[-1]["speed"]["padding"] < 0.2 and two[-1]["speed"]["tokens_per_second"] > 0


@pytest.mark.parametrize(
    ("more", "about"),
    [
        (("--strategy", "horovod"), "--strategy horovod: one of auto, ddp, fsdp"),
        (("--precision", "float8"), "--precision float8: one of float32, bfloat16"),
        (("--devices", "0"), "devices 0"),
        (("--set", "train.accumulate=3"), "batch_size 4: 1 processes of 3 parts"),
        (("--set", "train.accumulate=0"), "accumulate 0: at least 1"),
    ],
)
def test_what_can_not_be_had_costs_one_line(cli, store, tmp_path, more, about):
    outcome = cli(*train_lm(store, tmp_path / "run"), *more)
    assert outcome.code == 2 and about in outcome.err and outcome.err.count("\n") == 1, outcome


def test_only_stages_are_spread_out_and_only_with_adamw(cli, store, tmp_path, child_environment):
    outcome = cli("train", "codec", "--data", tmp_path, "--out", tmp_path / "run", "--strategy", "fsdp")
    assert outcome.code == 2 and "--strategy fsdp: only the stages' models" in outcome.err
    muon = train_lm(store, tmp_path / "run", "--strategy", "fsdp", "--set", "optimiser=muon")
    # In a process of its own: even one process of FSDP makes a process group.
    command = [sys.executable, "-m", "segue.cli", *muon]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "Muon needs whole matrices" in done.stderr


def test_hardware_that_makes_no_sense_is_refused():
    with pytest.raises(SegueError, match="names one device"):
        Hardware("cuda:1", devices=2)
    with pytest.raises(SegueError, match="devices 99: torch sees"):
        Hardware("cuda", devices=99)
    with pytest.raises(SegueError, match=r"train\.accumulate 0"):
        TrainConfig(accumulate=0)
