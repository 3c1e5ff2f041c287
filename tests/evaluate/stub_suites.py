"""Quick suites: `python stub_suites.py BUNDLE DATA OUT LOG` evaluates a bundle by them, slowly enough to be killed.

`listens` goes through the continuations of every recording and keeps a score of each; `refuses` can't be measured;
LOG gets a line for each continuation that is really made.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from segue.bundle import Bundle, load
from segue.errors import SegueError
from segue.evaluate import run
from segue.evaluate.generations import continuations
from segue.evaluate.measures import Figure
from segue.evaluate.run import Asked
from segue.evaluate.section import Column, Section, Table
from segue.evaluate.suite import Context

SEEDS = (0, 1)
SLOW_SECONDS = 0.1


def listens(context: Context) -> Section:
    """Loudness of two continuations of every recording."""
    figures = {}
    for one in continuations(context, "full", SEEDS):
        key = {"loudness of": one.recording.item.id, "seed": one.seed}
        loudness = context.cache.value(key, lambda wave=one.wave: float(wave.square().mean().sqrt()))
        figures[f"{one.recording.item.id} {one.seed}"] = {"rms": Figure(loudness)}
    table = Table("loudness", "Loudness", (Column("rms", "RMS", "neither", 4),), figures)
    return Section("stub", "Loudness", "Of what was made.", (table,), versions={"numpy": "0"})


def refuses(context: Context) -> Section:
    """What a suite does that can't use the recordings."""
    raise SegueError("no speaker\nis known; name them")


def named(name: str):
    """Stands for segue.evaluate.suites.suite."""
    return {"codec": listens, "lm": lambda context: replace(listens(context), title="Again"), "detector": refuses}[name]


def asked(data: Path, **changes) -> Asked:
    """Short continuations."""
    return replace(Asked((data,), "speech", prompt_seconds=1.0, seconds=0.4), **changes)


if __name__ == "__main__":
    bundle, data, out, log = sys.argv[1:]
    torch.set_num_threads(1)
    really = Bundle.continue_audio

    def slowly(*args, **kwargs):
        made = really(*args, **kwargs)
        with open(log, "a") as file:
            file.write("made\n")
        time.sleep(SLOW_SECONDS)
        return made

    Bundle.continue_audio = slowly
    run.suite = named
    run.run(load(bundle), asked(Path(data)), ["codec", "lm", "detector"], Path(out))
