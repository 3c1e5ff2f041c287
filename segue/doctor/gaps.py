"""Does what a stage is given matter to it? Its loss with the true prompt or prefix, and with that of another clip.

Crops of held-out clips, each from another one where there are enough: prefix streams and the target, (Q, T) each. The
first third of the target is the prompt, and losses, in nats a token, are those of the rest. A gap is the loss with
something of another crop in its place, less the true one's, crop by crop. The parallel decoder is asked for the first
codebook of all the rest at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segue.data.store import TokenStore
from segue.data.token_batches import TokenBatches
from segue.doctor.effort import Effort
from segue.doctor.findings import Figure, Finding, Findings, Verdict
from segue.lm.masking import hidden_codes
from segue.lm.model import StageModel
from segue.lm.parallel import ParallelModel
from segue.lm.sequence import NOT_PREDICTED

MOST_CROPS, FEWEST_CROPS = 32, 4
"""Crops that are asked about, and the fewest that tell anything."""
SURE = 2.0
"""A gap smaller than so many of its standard errors can't be told from none."""
NONE = 0.002
"""Nats a token below which a gap is none, however sure: two in a thousand of a token's chances."""
PROMPT_LITTLE = 0.02
"""A prompt worth less makes each token of what follows less than 2 % likelier: voice or piece are hardly kept."""
PREFIX_LITTLE = 0.05
"""The same for a prefix, which tells what sounds at that very instant and so must be worth more than a prompt."""
PROMPT_SHARE = 3
"""The prompt is one such part of the target."""


@dataclass(frozen=True)
class Gap:
    """How much worse a loss is with something of another clip.

    Attributes:
        nats: mean over crops, a token.
        error: standard error of it.
        loss: with everything true.
        crops: asked about.
    """

    nats: float
    error: float
    loss: float
    crops: int


@dataclass(frozen=True)
class Crops:
    """Crops of one length: prefix streams and target (Q, T) of each, and the number of the clip that each is of."""

    streams: list[list[Tensor]]
    clips: list[int]

    @property
    def of_one_clip(self) -> bool:
        """Whether all are of one clip."""
        return len(set(self.clips)) < 2


def crops_of(store: TokenStore, model: StageModel | ParallelModel, seed: int) -> Crops:
    """Crops as long as the stage's own, or shorter where clips are; one a clip, or several where clips are few."""
    batches: TokenBatches[Any] = TokenBatches(store, model.layout, seed, 1)
    stage, rng = model.stage, np.random.default_rng(seed)
    ticks, cut = store.code_frames() * store.header.cut[1], stage.semantic_ratio
    longest = np.sort(ticks)[::-1]
    length = min(stage.crop_frames, int(longest[min(len(longest), MOST_CROPS // 2) - 1]))
    order = [int(clip) for clip in rng.permutation(len(ticks))]
    if len(ticks) < FEWEST_CROPS:
        length = min(length, int(ticks.sum()) // (FEWEST_CROPS + len(ticks)))
        length = max(length - length % cut, 2 * cut)
        spans = [(clip, start) for clip in order for start in range(0, int(ticks[clip]) - length + 1, length)]
    else:
        length = max(length - length % cut, 2 * cut)
        fit = [clip for clip in order if ticks[clip] >= length]
        spans = [(clip, cut * int(rng.integers(1 + (ticks[clip] - length) // cut))) for clip in fit]
    spans = spans[:MOST_CROPS]
    streams = [[batches.cut(stream, clip, start, start + length) for stream in stage.streams] for clip, start in spans]
    return Crops(streams, [clip for clip, _ in spans])


def gaps_of(model: StageModel | ParallelModel, crops: Crops, effort: Effort) -> dict[str, Gap]:
    """`prompt` and each prefix stream -> its gap; empty where there are too few crops."""
    true, apart = losses_of(model, crops, effort)
    return {name: _gap(values, true) for name, values in apart.items()}


@torch.no_grad()
def losses_of(
    model: StageModel | ParallelModel, crops: Crops, effort: Effort
) -> tuple[list[float], dict[str, list[float]]]:
    """Crop by crop: its loss with everything true; and for `prompt` and each prefix stream what another's costs."""
    names = ["prompt", *(stream.name for stream in model.stage.prefix)]
    if len(crops.streams) < FEWEST_CROPS:
        return [], {}
    true: list[float] = []
    apart: dict[str, list[float]] = {name: [] for name in names}
    numbers = list(range(len(crops.streams)))
    for index in effort.while_it_lasts(f"{part_of(model)}: prompt", numbers):
        own, other = crops.streams[index], crops.streams[(index + 1) % len(numbers)]
        *prefix, target = own
        true.append(_loss(model, prefix, target))
        for place, name in enumerate(names):
            if name == "prompt":
                loss = _loss(model, prefix, _with_prompt_of(other[-1], target))
            else:
                changed = [*prefix[: place - 1], other[place - 1], *prefix[place:]]
                loss = _loss(model, changed, target)
            apart[name].append(loss - true[-1])
    return true, apart


def _prompt_frames(target: Tensor) -> int:
    return max(1, target.shape[-1] // PROMPT_SHARE)


def _with_prompt_of(other: Tensor, target: Tensor) -> Tensor:
    frames = min(_prompt_frames(target), other.shape[-1])
    return torch.cat([other[:, :frames], target[:, frames:]], dim=1)


def _loss(model: StageModel | ParallelModel, prefix: Sequence[Tensor], target: Tensor) -> float:
    """Nats a token of the target after its prompt."""
    if isinstance(model, ParallelModel):
        return _parallel_loss(model, prefix, target)
    batch = model.layout.train(prefix, target, ends=False)
    first = batch.tokens.shape[1] - 1 - target.numel()
    prompt = slice(first, first + _prompt_frames(target) * target.shape[0])
    batch.slots[:, prompt] = -1
    batch.classes[:, prompt] = NOT_PREDICTED
    sums, counts = model.slot_losses(batch)
    return float(sums.sum() / counts.sum())


def _parallel_loss(model: ParallelModel, prefix: Sequence[Tensor], target: Tensor) -> float:
    batch, levels = model.layout.train(prefix, target, ends=False), torch.zeros(1, dtype=torch.int64)
    prompt = (torch.arange(target.shape[-1]) < _prompt_frames(target))[None]
    seen = batch.codes.masked_fill(hidden_codes(prompt, ~prompt, levels, target.shape[0]), model.mask)
    valid = torch.ones_like(prompt)
    sums, counts = model.slot_losses(batch.semantic, seen, batch.codes[:, 0], ~prompt, levels, valid)
    return float(sums.sum() / counts.sum())


def part_of(model: StageModel | ParallelModel) -> str:
    """What a model goes by in findings."""
    return "parallel decoder" if isinstance(model, ParallelModel) else f"{model.stage.name} stage"


def _gap(values: Sequence[float], true: Sequence[float]) -> Gap:
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Gap(float(np.mean(values)), error, float(np.mean(true)), len(values))


def verdict_on(gap: Gap, little: float) -> Verdict | None:
    """`bad` where there is none to speak of, `warn` where less than `little`, None where these crops can't tell."""
    if gap.nats >= NONE and gap.nats >= SURE * gap.error:
        return "warn" if gap.nats < little else "ok"
    return "bad" if gap.nats + SURE * gap.error < little else None


def findings_on_gaps(model: StageModel | ParallelModel, store: TokenStore, effort: Effort) -> Findings:
    """Whether prompt and prefix matter to a stage."""
    part = part_of(model)
    crops = crops_of(store, model, effort.seed)
    gaps = gaps_of(model, crops, effort)
    if not gaps:
        meaning = "too little held-out sound to say whether its prompt matters"
        yield Finding(
            f"{part}: prompt", "warn", {"crops": len(crops.streams)}, meaning, "give more of it: --data FOLDER"
        )
    for name, gap in gaps.items():
        yield _finding(part, name, gap, crops.of_one_clip)


def _finding(part: str, name: str, gap: Gap, of_one_clip: bool) -> Finding:
    figures: dict[str, Figure] = {
        "nats": gap.nats,
        "standard_error": gap.error,
        "loss": gap.loss,
        "crops": gap.crops,
    }
    prompt = name == "prompt"
    what, little = ("prompt", PROMPT_LITTLE) if prompt else (f"{name} tokens", PREFIX_LITTLE)
    verdict = verdict_on(gap, little)
    subject = f"{part}: {'prompt' if prompt else f'{name} tokens'}"
    matters, does = ("matters", "does") if prompt else ("matter", "do")
    worth = f"another clip's {what} {'costs' if prompt else 'cost'} {gap.nats:+.3f} nats a token"
    if verdict == "ok":
        return Finding(subject, "ok", figures, f"its {what} {matters}: {worth}")
    if verdict is None or (prompt and of_one_clip):
        meaning = (
            f"{gap.crops} crops can't tell whether its {what} {matters} ({worth}, give or take {SURE * gap.error:.3f})"
        )
        return Finding(subject, "warn", figures, meaning, "give more recordings, of several voices: --data FOLDER")
    if name == "semantic" and part == "fine stage":  # its coarse codes tell the same
        meaning = f"its {what} {does} not matter beside its coarse ones: {worth}"
        return Finding(
            subject, "warn", figures, meaning, "leave them out, as the paper does: --set 'prefix=[\"coarse\"]'"
        )
    remedy = (
        "train longer; check that clips are longer than a crop and that speakers differ between them"
        if prompt
        else f"train longer; check that the {name} tokens are of the same recordings and have not collapsed"
    )
    if verdict == "warn":
        return Finding(subject, "warn", figures, f"its {what} {matters} little: {worth}", remedy)
    return Finding(subject, "bad", figures, f"its {what} {does} not matter: {worth}", remedy)
