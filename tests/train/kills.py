"""`python kills.py FOLDER SEED`: four trainings in a row, killed ten times at random moments and gone on with.

Then once more without a kill. Leaves FOLDER/killed and FOLDER/unbroken, and a line on each kill on standard output.
"""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import sys
import time
from pathlib import Path

import processes
import tiny
import torch
from torch.utils.tensorboard import SummaryWriter

from segue.lm.model import StageModel
from segue.lm.parallel import ParallelModel
from segue.lm.stage import acoustic_stage, coarse_stage
from segue.train import fabric
from segue.train.codec import CodecTraining
from segue.train.lm import StageTraining
from segue.train.loop import Event, TrainConfig, run
from segue.train.parallel import ParallelTraining
from segue.train.semantic import SemanticTraining

KINDS = ("codec", "semantic", "lm", "parallel")
KILLS = 10
CONFIG = TrainConfig(
    steps=24,
    batch_size=processes.ROWS,
    learning_rate=1e-3,
    warmup_steps=3,
    ema_decay=0.9,
    validate_every=6,
    validate_batches=1,
    checkpoint_every=4,
    log_every=1,
)


def make(kind: str):
    """A training with all the state there can be: discriminators, balancer, average, dropout."""
    if kind == "codec":
        objective = dataclasses.replace(tiny.OBJECTIVE, balanced=True)
        return CodecTraining(tiny.CODEC, objective, 0.01, 1.0, CONFIG.ema_decay, 1), processes.sounds
    if kind == "semantic":
        encoder = dataclasses.replace(tiny.SEMANTIC.tokenizer.encoder, dropout=0.1)
        config = dataclasses.replace(
            tiny.SEMANTIC, tokenizer=dataclasses.replace(tiny.SEMANTIC.tokenizer, encoder=encoder), noise_db=-60.0
        )
        return SemanticTraining(config, 1, ema_decay=CONFIG.ema_decay), processes.sounds
    if kind == "parallel":
        stage = acoustic_stage(6, 2, 6, crop_seconds=0.4)
        decoder = ParallelModel(stage, dataclasses.replace(tiny.PARALLEL, dropout=0.1), tiny.rng())
        filling = ParallelTraining(decoder, {}, ema_decay=CONFIG.ema_decay)
        return filling, lambda k, rows=slice(None): processes.frames(decoder, k, rows)
    model = StageModel(coarse_stage(6, 2, 6), dataclasses.replace(tiny.TRANSFORMER, dropout=0.1), tiny.rng())
    training = StageTraining(model, {}, ema_decay=CONFIG.ema_decay, optimiser="muon")
    return training, lambda k, rows=slice(None): processes.tokens(training, k, rows)


def train_all(folder: Path, tell) -> None:
    """Every kind in turn, from wherever it was stopped; `tell` is told its number and each step."""
    torch.set_num_threads(1)
    for number, kind in enumerate(KINDS):

        def watch(event: Event, number: int = number) -> None:
            if event.kind == "train":
                tell(number, event.step)

        training, batches = make(kind)
        run(training, batches, batches, CONFIG, folder / kind, {"kind": kind}, watch)


def killed_at(folder: Path, target: int | None, delay: float) -> float:
    """Train in a new process; SIGKILL comes after it has done `target` steps, counted over all kinds, and `delay` more.

    Returns:
        seconds between that last step and the kill.
    """
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        try:
            train_all(folder, lambda number, step: os.write(tells, bytes([number * CONFIG.steps + step])))
            os.close(tells)  # whoever waits for more steps need not wait any longer
            if target is not None:
                signal.pause()  # done before it is killed, where the machine stalled: the kill still comes
        finally:
            os._exit(0)
    os.close(tells)
    before = now = time.monotonic()
    while (step := os.read(told, 1)) and (target is None or step[0] < target):
        before, now = now, time.monotonic()
    # Where the machine stalled for the last step, so long a wait would see the end of all trainings.
    seconds = min(0.3, delay * (time.monotonic() - now if before == now else now - before))
    if target is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(told)
    assert code == (0 if target is None else -signal.SIGKILL), code
    return seconds


if __name__ == "__main__":
    folder, draw = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    fabric.alone(), SummaryWriter  # what takes long to import is imported before the forks
    for number in range(KILLS):
        target = 1 + int((number + draw.random()) * (len(KINDS) * CONFIG.steps - 2) / KILLS)
        seconds = killed_at(folder / "killed", target, draw.uniform(0.0, 1.5))
        kind, step = KINDS[(target - 1) // CONFIG.steps], (target - 1) % CONFIG.steps + 1
        last = max((path.name for path in (folder / "killed" / kind).glob("step-*")), default="no checkpoint")
        print(f"kill {number + 1}: {kind}, {seconds * 1000:.0f} ms after step {step}; newest: {last}", flush=True)
    killed_at(folder / "killed", None, 0.0)
    killed_at(folder / "unbroken", None, 0.0)
