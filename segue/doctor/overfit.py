"""Can a part's training learn at all? A fresh one, of the part's own sizes and rate, sees one batch again and again.

A loss that does not fall on one batch falls on none: the rate is wrong, or the sound, the tokens or the networks are.
Batches: wave (B, N) and lengths (B,), or a TokenBatch, as of segue.train.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segue.codec.soundstream import CodecConfig
from segue.data.store import TokenStore
from segue.data.token_batches import TokenBatches
from segue.doctor.effort import Effort
from segue.doctor.findings import Figure, Finding
from segue.lm.model import StageModel
from segue.lm.stage import Stage
from segue.lm.transformer import TransformerConfig
from segue.train.codec import CodecObjective, CodecTraining
from segue.train.lm import StageTraining
from segue.train.loop import Training, generator
from segue.train.semantic import SemanticConfig, SemanticTraining

MOST_STEPS = 200
"""Steps after which a loss that has not fallen will not: parts that are sound need 10 to 50."""
MUST_FALL_TO = {"codec": 0.65, "semantic": 0.8, "stage": 0.5}
"""Shares of a batch's first loss that it must fall to, mean of five steps. The recipe `tiny` gets there in some 10, 30
and 15 steps and goes on to 0.35, 0.7 and 0 by step 100; at a hundred times its rates all losses rise. The semantic
one hides other frames each step, so it can't learn its batch by heart."""
WARM_UP_STEPS = 5
CROPS = 2
CODEC_SECONDS, SEMANTIC_SECONDS = 0.64, 3.0
_SMOOTH = 5


def codec_training(config: CodecConfig, seed: int) -> CodecTraining:
    """A fresh one, without discriminators and without rounding: whether encoder and decoder learn."""
    objective = CodecObjective(adversarial_start_step=-1, warm_steps=MOST_STEPS + 1)
    return CodecTraining(config, objective, 0.0, 1.0, 0.0, seed)


def semantic_training(config: SemanticConfig, seed: int) -> SemanticTraining:
    """A fresh one."""
    return SemanticTraining(config, seed, ema_decay=0.0)


def stage_training(stage: Stage, config: TransformerConfig, codebooks: Tensor | None, seed: int) -> StageTraining:
    """A fresh one; its tables start from the codec's code vectors where there are any."""
    model = StageModel(stage, config, generator(seed, 0, 2))
    if codebooks is not None:
        model.start_from(codebooks, generator(seed, 0, 3))
    return StageTraining(model, {}, weight_decay=0.0, optimiser="adamw")


def sound_batch(waves: Sequence[Tensor], seconds: float, sample_rate: int, hop: int) -> tuple[Tensor, Tensor]:
    """Some crops of waves (N,), all of one length."""
    wanted = round(seconds * sample_rate / hop) * hop
    longest = sorted(waves, key=len, reverse=True)[:CROPS]
    samples = min(wanted, len(longest[-1]) - len(longest[-1]) % hop)
    wave = torch.stack([one[(len(one) - samples) // 2 :][:samples] for one in longest])
    return wave, torch.full((len(wave),), samples)


def token_batch(store: TokenStore, training: StageTraining, seed: int) -> Any:
    """Some crops of a store."""
    return TokenBatches(store, training.model.layout, seed, CROPS).batch(0)


def overfit(part: str, kind: str, training: Training, batch: Any, learning_rate: float, effort: Effort) -> Finding:
    """Train on one batch until its loss has fallen as it must.

    Args:
        part: the finding's.
        kind: `codec`, `semantic` or `stage`.
        training: a fresh one.
        batch: for it.
        learning_rate: after a few steps of warm-up.
        effort: time to spend.
    """
    subject, target = f"{part}: one batch", MUST_FALL_TO[kind]
    losses: list[float] = []
    until = time.monotonic() + effort.seconds
    training.prepare(lambda index: batch)
    try:
        for step in range(MOST_STEPS):
            rate = learning_rate * min(1.0, (step + 1) / WARM_UP_STEPS)
            report = training.step(batch, generator(effort.seed, step, 0), rate)
            losses.append(next(iter(report.values())))
            effort.told(f"{part}: one batch", step + 1, MOST_STEPS)
            fell = sum(losses[-_SMOOTH:]) / len(losses[-_SMOOTH:]) / losses[0]
            if not math.isfinite(fell) or (len(losses) > _SMOOTH and fell <= target):
                break
            if time.monotonic() > until and len(losses) > _SMOOTH:
                break
    finally:
        effort.told(f"{part}: one batch", MOST_STEPS, MOST_STEPS)
    figures: dict[str, Figure] = {
        "steps": len(losses),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "fell_to": fell,
    }
    if not math.isfinite(fell):
        meaning = f"its loss on one batch is {losses[-1]} after {len(losses)} steps at rate {learning_rate:g}"
        return Finding(subject, "bad", figures, meaning, "lower train.learning_rate; look for NaN in the data")
    if fell <= target:
        meaning = f"a fresh one learns: its loss on one batch falls to {fell:.0%} in {len(losses)} steps"
        return Finding(subject, "ok", figures, meaning)
    meaning = f"its loss on one batch is at {fell:.0%} after {len(losses)} steps, {target:.0%} or less is expected"
    if len(losses) < MOST_STEPS and fell < 1:
        return Finding(subject, "warn", figures, f"{meaning}; it ran out of time", "give it more: --seconds")
    remedy = "try another train.learning_rate (half, double); check that sound and tokens belong together"
    return Finding(subject, "bad", figures, meaning, remedy)
