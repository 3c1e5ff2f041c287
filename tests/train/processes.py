"""`python processes.py PORT FOLDER`: each kind of training by one process and by two; leaves losses and states.

Processes are forked, since importing torch takes longer than all else.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import traceback
from pathlib import Path

import tiny
import torch
from safetensors.torch import save_file
from torch import Tensor

from segue.lm.model import StageModel
from segue.lm.parallel import FrameBatch, ParallelModel
from segue.lm.sequence import TokenBatch, pad
from segue.lm.stage import acoustic_stage, coarse_stage
from segue.train import fabric
from segue.train.codec import CodecTraining
from segue.train.lm import StageTraining
from segue.train.loop import generator
from segue.train.parallel import ParallelTraining
from segue.train.semantic import SemanticTraining

ROWS, STEPS, RATE = 4, 6, 5e-4
HOW = {
    "one": (1, "auto", 1),
    "parts": (1, "auto", 2),
    "two": (2, "ddp", 1),
    "two-parts": (2, "ddp", 2),
    "fsdp": (2, "fsdp", 2),
}
JOBS = {
    "codec": ("one", "parts", "two"),
    "codec-balanced": ("one", "two-parts"),
    "semantic": ("one", "parts", "two", "two-parts"),
    "semantic-taught": ("one", "two-parts"),
    "semantic-cpc": ("one", "two-parts"),
    "lm": ("one", "parts", "two"),
    "lm-adamw": ("one", "two-parts", "fsdp"),
    "parallel": ("one", "parts", "two", "fsdp"),
}


def sounds(k: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Crops of unequal length, a function of `k`."""
    wave = tiny.waves(ROWS, 0.64, seed=k + 1).to(torch.get_default_dtype())
    lengths = torch.tensor([wave.shape[1], 7000, wave.shape[1], 9000])
    return (wave * (torch.arange(wave.shape[1]) < lengths[:, None]))[rows], lengths[rows]


def tokens(training: StageTraining, k: int, rows: slice = slice(None)) -> TokenBatch:
    """Sequences of unequal length, a function of `k`."""
    return pad(_sequences(training.model.layout, k)[rows])


def frames(model: ParallelModel, k: int, rows: slice = slice(None)) -> FrameBatch:
    """The same as frames."""
    return model.layout.pad(_sequences(model.layout, k)[rows])


def _sequences(layout, k: int) -> list:
    rng, made = torch.Generator().manual_seed(k), []
    for row in range(ROWS):
        semantic = torch.randint(0, 6, (1, 2 + 2 * row), generator=rng)
        made.append(layout.train([semantic], semantic.repeat_interleave(2, 1).expand(2, -1), row == 1))
    return made


def make(kind: str, world: fabric.World, accumulate: int):
    """A training and its batches."""
    if kind.startswith("codec"):
        objective = dataclasses.replace(tiny.OBJECTIVE, balanced=kind.endswith("balanced"))
        return CodecTraining(tiny.CODEC, objective, 0.01, 1.0, 0.9, 0, accumulate, world), sounds
    if kind == "semantic":
        config = dataclasses.replace(tiny.SEMANTIC, noise_db=-60.0)
        return SemanticTraining(config, 0, accumulate=accumulate, world=world), sounds
    if kind == "semantic-taught":
        objective = dataclasses.replace(tiny.SEMANTIC.objective, kind="teacher")
        config = dataclasses.replace(tiny.SEMANTIC, objective=objective, warp=1.2, colour=0.5)
        return SemanticTraining(config, 0, accumulate=accumulate, world=world, teacher=tiny.make_semantic()), sounds
    if kind == "semantic-cpc":
        return SemanticTraining(tiny.PREDICTIVE, 0, accumulate=accumulate, world=world), sounds
    if kind == "parallel":
        decoder = ParallelModel(acoustic_stage(6, 2, 6, crop_seconds=0.4), tiny.PARALLEL, tiny.rng())
        filling = ParallelTraining(decoder, {}, 0.05, 1.0, 0.9, 0.5, accumulate, world)
        return filling, lambda k, rows=slice(None): frames(decoder, k, rows)
    optimiser = "adamw" if kind.endswith("adamw") else "muon"
    model = StageModel(coarse_stage(6, 2, 6), tiny.TRANSFORMER, tiny.rng())
    training = StageTraining(model, {}, 0.05, 1.0, 0.9, optimiser, accumulate, world)
    return training, lambda k, rows=slice(None): tokens(training, k, rows)


def leaves(value, path: str = "") -> dict[str, object]:
    """Every leaf of a nested state by its path."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in leaves(item, f"{path}/{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for index, item in enumerate(value) for k, v in leaves(item, f"{path}/{index}").items()}
    return {path: value}


def train(kind: str, processes: int, strategy: str, accumulate: int, out: Path) -> None:
    """A few steps; the first process writes OUT.json and OUT.safetensors.

    The codec is trained in double precision: a vector half-way between two codes then chooses alike everywhere.
    """
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64 if kind.startswith("codec") else torch.float32)
    world = fabric.start(fabric.Hardware(devices=processes, strategy=strategy))
    training, batches = make(kind, world, accumulate)
    rows = world.rows(ROWS, accumulate)
    training.prepare(batches)
    losses = [training.step(batches(k, rows), generator(0, k, 0), RATE) for k in range(STEPS // 2)]
    training.load_state_dict(training.state_dict())
    losses += [training.step(batches(k, rows), generator(0, k, 0), RATE) for k in range(STEPS // 2, STEPS)]
    losses.append(training.validate(batches(99, rows), generator(0, 0, 1)))
    kept = {path: value.contiguous() for path, value in leaves(training.state_dict()).items() if torch.is_tensor(value)}
    part = training.export({}) if not kind.startswith("semantic") else None
    if world.is_first:
        save_file({path: value.clone() for path, value in kept.items()}, out.with_suffix(".safetensors"))
        losses.append({"exported": len(part.tensors) if part else 0})
        out.with_suffix(".json").write_text(json.dumps(losses))
    world.barrier()


def launched(processes: int, port: int, function, *arguments) -> None:
    """Call a function in so many new processes, as torchrun would."""
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            size = str(processes)
            if processes > 1:
                places = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
                meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
                os.environ.update({**places, **meet, "GROUP_RANK": "0", "TORCHELASTIC_USE_AGENT_STORE": "False"})
            code = 0
            try:
                function(*arguments)
            except Exception:
                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            os._exit(code)
        children.append(child)
    codes = {}
    while len(codes) < len(children):
        child, status = os.wait()
        codes[child] = os.waitstatus_to_exitcode(status)
        if codes[child]:  # the others would wait for it
            for other in set(children) - set(codes):
                os.kill(other, signal.SIGKILL)
    assert not any(codes.values()), codes


if __name__ == "__main__":
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    fabric.alone()  # what takes long to import is imported before the forks
    for number, (kind, how) in enumerate((kind, how) for kind, all_of in JOBS.items() for how in all_of):
        processes, strategy, accumulate = HOW[how]
        launched(processes, port + number, train, kind, processes, strategy, accumulate, folder / f"{kind}-{how}")
