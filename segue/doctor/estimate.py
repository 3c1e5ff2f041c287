"""How long each part of a recipe would train on this machine, and whether a step fits its memory.

The arithmetic of a step is counted (segue.doctor.arithmetic). The speed is the machine's own for a matrix product,
times the share of it that training reaches, which is measured on real steps of the recipe `tiny`, or taken for granted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from segue import recipes
from segue.doctor.arithmetic import PARTS, Cost, cost_of, stage_of
from segue.doctor.effort import Effort
from segue.doctor.findings import Figure, Finding, Findings, Verdict
from segue.doctor.machine import Machine
from segue.lm.model import StageModel
from segue.lm.sequence import pad
from segue.recipes import Recipe
from segue.train.codec import CodecTraining
from segue.train.fabric import alone
from segue.train.lm import StageTraining
from segue.train.loop import TrainConfig, generator
from segue.train.semantic import SemanticTraining

ASSUMED_SHARES = {"codec": 0.36, "semantic": 0.56, "stage": 0.66}
"""Shares of a matrix product's speed that training reached on one thread of a shared x86-64 server, recipe `tiny`."""
GPU_SHARE = 0.35
"""Taken for granted on a GPU, where small steps measure the launching of kernels; large trainings reach 0.3 to 0.5."""
LONG_DAYS = 14.0
"""A recipe that takes longer than this is one for another machine."""
TIMED_STEPS = 3


def kind_of(part: str) -> str:
    """`codec`, `semantic`, `stage` or `parallel`."""
    return part.split()[-1] if part.endswith("stage") else part.split()[0]


def findings_on_time(machine: Machine, wanted: Recipe, effort: Effort) -> Findings:
    """An estimate for every recipe; only the wanted one is judged.

    Args:
        machine: to train on.
        wanted: the recipe that is meant to be trained.
        effort: for timing real steps; a quick one takes shares for granted.
    """
    shares: Mapping[str, float] = ASSUMED_SHARES
    how = "shares of a matrix product's speed as on another machine"
    if machine.device.type != "cpu":
        shares, how = (
            dict.fromkeys(ASSUMED_SHARES, GPU_SHARE),
            f"{GPU_SHARE:.0%} of a matrix product's speed in bfloat16",
        )
    elif not effort.quick:
        shares, how = measured_shares(machine, effort), "shares of a matrix product's speed measured on steps of `tiny`"
        figures: dict[str, Figure] = {f"{kind}_share": share for kind, share in shares.items()}
        meaning = "training reaches " + ", ".join(f"{share:.0%} ({kind})" for kind, share in shares.items())
        yield Finding("machine: training speed", "ok", figures, f"{meaning} of a matrix product's speed")
    everything = [wanted, *(make() for name, make in recipes.RECIPES.items() if name != wanted.name)]
    for recipe in effort.all_of("count", everything):
        yield estimate(machine, recipe, {part: cost_of(part, recipe) for part in PARTS}, shares, how, recipe is wanted)


def estimate(
    machine: Machine, recipe: Recipe, costs: Mapping[str, Cost], shares: Mapping[str, float], how: str, wanted: bool
) -> Finding:
    """Time and memory of one recipe."""
    trains = dict(zip(PARTS, train_configs(recipe), strict=True))
    hours, memory, parts_needed = {}, {}, {}
    for part, cost in costs.items():
        hours[part] = cost.gflop * trains[part].steps / (machine.gflops * shares[kind_of(part)]) / 3600
        memory[part] = cost.bytes(trains[part].accumulate) / 1e9
        if memory[part] > machine.memory_gb:
            parts_needed[part] = _accumulate(cost, trains[part].accumulate, machine.memory_gb)
    total = sum(hours.values())
    figures: dict[str, Figure] = {"hours": total}
    figures |= {f"hours_{part.replace(' ', '_')}": value for part, value in hours.items()}
    figures |= {f"gb_{part.replace(' ', '_')}": value for part, value in memory.items()}
    meaning = f"{_duration(total)} of training ({how}; sound ready, nothing else running)"
    verdict: Verdict = "ok"
    remedy = ""
    if parts_needed:
        verdict = "bad" if None in parts_needed.values() else "warn"
        tight = max(parts_needed, key=lambda part: memory[part])
        meaning += f"; a step of the {tight} takes {memory[tight]:,.1f} GB, {machine.memory_gb:,.1f} are there"
        settings = [f"{part}: --set train.accumulate={n}" for part, n in parts_needed.items() if n]
        remedy = "; ".join(settings) if verdict == "warn" else "a smaller recipe, or a machine with more memory"
    if total > 24 * LONG_DAYS:
        verdict = "bad" if verdict == "bad" else "warn"
        remedy = remedy or "train on a GPU or several (--device cuda, --devices N), or take a smaller recipe"
    if not wanted:
        verdict = "ok"
    return Finding(f"machine: recipe {recipe.name}", verdict, figures, meaning, remedy)


def train_configs(recipe: Recipe) -> list[TrainConfig]:
    """Of each of `PARTS`."""
    stages = (recipe.semantic_stage, recipe.coarse_stage, recipe.fine_stage)
    return [part.train for part in (recipe.codec, recipe.semantic, *stages)]


def _accumulate(cost: Cost, least: int, memory_gb: float) -> int | None:
    """The fewest parts that fit; None where not even one crop at a time does."""
    for parts in range(least, cost.batch_size + 1):
        if cost.batch_size % parts == 0 and cost.bytes(parts) / 1e9 <= memory_gb:
            return parts
    return None


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.0f} min"
    if hours < 48:
        return f"{hours:.1f} h"
    return f"{hours / 24:,.0f} days" if hours < 24 * 700 else f"{hours / 24 / 365:,.0f} years"


def measured_shares(machine: Machine, effort: Effort) -> dict[str, float]:
    """What share of a matrix product's speed real steps of the recipe `tiny` reach, on noise."""
    recipe = recipes.tiny()
    found = {}
    for kind, part in effort.all_of(
        "time steps", [("codec", "codec"), ("semantic", "semantic"), ("stage", "coarse stage")]
    ):
        seconds = _step_seconds(kind, recipe, machine, effort)
        found[kind] = cost_of(part, recipe).gflop / seconds / machine.gflops
    return found


def _step_seconds(kind: str, recipe: Recipe, machine: Machine, effort: Effort) -> float:
    training, batch = _noise(kind, recipe, machine, effort.seed)
    times: list[float] = []
    until = time.perf_counter() + effort.seconds / 4
    while len(times) < 2 or (len(times) <= TIMED_STEPS and time.perf_counter() < until):
        began = time.perf_counter()
        training.step(batch, generator(effort.seed, len(times), 0), 1e-4)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _noise(kind: str, recipe: Recipe, machine: Machine, seed: int) -> tuple[Any, Any]:
    """A training of the recipe and a batch of noise for it."""
    world, rng = alone(machine.device), torch.Generator().manual_seed(seed)
    if kind == "stage":
        model = StageModel(stage_of("coarse", recipe), recipe.coarse_stage.model, rng)
        stage = model.stage

        def draw(streams: Sequence[Any]) -> list[torch.Tensor]:
            return [
                torch.randint(one.size, (one.num_codebooks, one.frames(stage.crop_frames)), generator=rng)
                for one in streams
            ]

        rows = [
            model.layout.train(draw(stage.prefix), draw([stage.target])[0], False)
            for _ in range(recipe.coarse_stage.train.batch_size)
        ]
        return StageTraining(model, {}, optimiser=recipe.coarse_stage.optimiser, world=world), pad(rows)
    one = recipe.codec if kind == "codec" else recipe.semantic
    samples = round(one.train.crop_seconds * 16_000)
    wave = 0.1 * torch.randn(one.train.batch_size, samples, generator=rng)
    batch = (wave, torch.full((len(wave),), samples))
    training = (
        CodecTraining(recipe.codec.model, recipe.codec.objective, 0.01, 1.0, 0.0, seed, world=world)
        if kind == "codec"
        else SemanticTraining(recipe.semantic.model, seed, world=world)
    )
    training.prepare(lambda index: (batch[0][:2], batch[1][:2]))
    return training, batch
