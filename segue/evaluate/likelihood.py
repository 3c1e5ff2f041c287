"""How likely stages find tokens, in nats: held-out recordings by stage and codebook, and the members of pairs.

Tokens of a recording are semantic (T_s,) and codes (Q, T); losses of a stage are sums (R, Q) and counts (R, Q) of R
recordings and its target's Q codebooks. A recording is heard in windows as long as the stage's crops, so no token is
asked for beyond what the stage was trained on. The token that ends a clip isn't asked for.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segue import audio
from segue.bundle import Bundle
from segue.data.aligned import encode_aligned, header
from segue.data.store import TokenStore
from segue.data.token_batches import TokenBatches
from segue.doctor.effort import Effort
from segue.doctor.gaps import crops_of, losses_of, part_of
from segue.evaluate.cache import LONGEST_SECONDS
from segue.evaluate.pairs.sets import Pair, PairSet
from segue.evaluate.recordings import Recording
from segue.evaluate.suite import Context
from segue.lm.model import StageModel
from segue.lm.parallel import ParallelModel

MOST_WINDOWS = 4
"""Of a recording, evenly spaced: its fine codes alone would be thousands of tokens."""
_CHUNK = 50
"""Pairs that are kept together."""


@dataclass(frozen=True)
class Losses:
    """What a stage's tokens cost.

    Attributes:
        sums: (R, Q) nats.
        counts: (R, Q) tokens that were asked for.
    """

    sums: np.ndarray
    counts: np.ndarray

    def mean(self, rows: np.ndarray, codebook: int | None = None) -> float:
        """Nats a token over some recordings, of one codebook or of all; NaN where nothing was asked for."""
        chosen = slice(None) if codebook is None else slice(codebook, codebook + 1)
        total = self.counts[rows, chosen].sum()
        return float(self.sums[rows, chosen].sum() / total) if total else math.nan


@dataclass(frozen=True)
class Conditioning:
    """What the prompt and the prefix streams are worth to a stage.

    Attributes:
        part: the stage.
        true: (n,) nats a token of each crop.
        apart: `prompt` and prefix stream -> (n,) nats a token that another recording's in its place costs.
        clips: (n,) the recording that each crop is of.
    """

    part: str
    true: np.ndarray
    apart: dict[str, np.ndarray]
    clips: list[int]


@dataclass(frozen=True)
class Member:
    """A member of a pair, as the semantic stage hears it.

    Attributes:
        nats: minus the logarithm of its likelihood.
        tokens: its semantic tokens, as many as the stage's longest crop at most.
        cut: whether there were more.
    """

    nats: float
    tokens: list[int]
    cut: bool


def tokens_of(context: Context) -> TokenStore:
    """Tokens of a context's recordings, in their order, made once and kept."""
    bundle, rows, total = context.bundle, [], len(context.recordings)
    for done, recording in enumerate(context.recordings):
        context.tell("tokens", done, total)
        key = {
            "of": "tokens",
            "recording": recording.identity,
            "seconds": recording.seconds,
            "semantic": bundle.semantic.fingerprint,
            "codec": bundle.codec.codes_fingerprint,
        }
        rows.append(context.cache.value(key, partial(_tokens, bundle, recording)))
    context.tell("tokens", total, total)
    facts = [{"id": one.item.id, "seconds": one.seconds} for one in context.recordings]
    units = [np.asarray(row["semantic"], np.int16) for row in rows]
    codes = [np.asarray(row["codes"], np.int16).reshape(-1, bundle.codec.num_codebooks) for row in rows]
    return TokenStore(header(bundle.semantic, bundle.codec), facts, units, codes)


def losses_on(context: Context, model: StageModel, role: str, store: TokenStore) -> Losses:
    """Losses of a stage on every recording, made once and kept.

    Args:
        context: of the suite.
        model: one of its bundle's stages.
        role: of the stage in the bundle.
        store: the recordings' tokens.
    """
    rows, total = [], len(context.recordings)
    for clip, recording in enumerate(context.recordings):
        context.tell(f"likelihood, {model.stage.name}", clip, total)
        key = {
            "of": "likelihood",
            "stage": context.bundle.fingerprints[role],
            "recording": recording.identity,
            "seconds": recording.seconds,
            "windows": MOST_WINDOWS,
        }
        rows.append(context.cache.value(key, partial(_losses, model, store, clip)))
    context.tell(f"likelihood, {model.stage.name}", total, total)
    return Losses(np.asarray([row[0] for row in rows]), np.asarray([row[1] for row in rows]))


def conditioning_of(
    context: Context, model: StageModel | ParallelModel, role: str, store: TokenStore
) -> Conditioning | None:
    """What prompt and prefixes are worth, kept; None where recordings are too few to tell."""
    part = part_of(model)
    key = {
        "of": "conditioning",
        "stage": context.bundle.fingerprints[role],
        "recordings": [[one.identity, one.seconds] for one in context.recordings],
        "seed": context.seed,
    }

    def make() -> dict[str, Any]:
        crops = crops_of(store, model, context.seed)
        effort = Effort(
            math.inf, seed=context.seed, told=lambda check, done, n: context.tell(f"{part}: given", done, n)
        )
        true, apart = losses_of(model, crops, effort)
        return {"true": true, "apart": apart, "clips": crops.clips}

    kept = context.cache.value(key, make)
    if not kept["true"]:
        return None
    apart = {name: np.asarray(values) for name, values in kept["apart"].items()}
    return Conditioning(part, np.asarray(kept["true"]), apart, kept["clips"])


def members_of(context: Context, pairs: PairSet) -> Iterator[tuple[Pair, Member, Member]]:
    """The pairs of a set, heard: pair, right, wrong. Kept, as long as the sounds stay what they are.

    Raises:
        SegueError: if a sound can't be read.
    """
    total = len(pairs.pairs)
    for first in range(0, total, _CHUNK):
        context.tell(pairs.name, first, total)
        chunk = pairs.pairs[first : first + _CHUNK]
        key = {
            "of": "pairs",
            "stage": context.bundle.fingerprints["semantic_stage"],
            "sounds": [[_digest(pair.right.read_bytes()), _digest(pair.wrong.read_bytes())] for pair in chunk],
        }
        kept = context.cache.value(key, partial(_hear_all, context.bundle, chunk))
        for pair, (right, wrong) in zip(chunk, kept, strict=True):
            yield pair, Member(**right), Member(**wrong)
    context.tell(pairs.name, total, total)


def hear(bundle: Bundle, path: Path) -> Member:
    """A sound file as the semantic stage hears it.

    Raises:
        SegueError: if it can't be read.
    """
    wave = torch.from_numpy(audio.read_crop(path, 0.0, LONGEST_SECONDS, bundle.semantic.sample_rate))
    with torch.inference_mode():
        return likelihood(bundle.stages.semantic, bundle.semantic.encode(wave[None])[0])


def likelihood(model: StageModel, tokens: Tensor) -> Member:
    """Semantic tokens (T,) as a sequence of their own; repeats are removed where the stage never sees them."""
    stage = model.stage
    units = torch.unique_consecutive(tokens) if stage.deduplicate_semantic else tokens
    kept = units[: stage.target.frames(stage.crop_frames)]
    with torch.inference_mode():
        sums, _ = model.slot_losses(model.layout.train([], kept[None].to(torch.int64), ends=False))
    return Member(float(sums.sum()), kept.tolist(), len(kept) < len(units))


def _tokens(bundle: Bundle, recording: Recording) -> dict[str, Any]:
    semantic, codec = bundle.semantic, bundle.codec
    wave = recording.wave(semantic.sample_rate)
    other = recording.wave(codec.sample_rate) if semantic.sample_rate != codec.sample_rate else None
    units, codes = encode_aligned(wave, semantic, codec, other)
    return {"semantic": units.tolist(), "codes": codes.T.tolist()}


def _hear_all(bundle: Bundle, pairs: Sequence[Pair]) -> list[list[dict[str, Any]]]:
    return [[vars(hear(bundle, path)) for path in (pair.right, pair.wrong)] for pair in pairs]


@torch.no_grad()
def _losses(model: StageModel, store: TokenStore, clip: int) -> tuple[list[float], list[int]]:
    """Sums and counts (Q,) over a recording's windows."""
    batches: TokenBatches[Any] = TokenBatches(store, model.layout, 0, 1)
    stage, ticks = model.stage, int(store.code_frames()[clip]) * store.header.cut[1]
    length, cut = min(stage.crop_frames, ticks - ticks % stage.semantic_ratio), stage.semantic_ratio
    codebooks = stage.target.num_codebooks
    total, asked = torch.zeros(codebooks, dtype=torch.float64), torch.zeros(codebooks, dtype=torch.int64)
    for start in _starts(ticks, length, cut):
        *prefix, target = (batches.cut(stream, clip, start, start + length) for stream in stage.streams)
        sums, counts = model.slot_losses(model.layout.train(prefix, target, ends=False))
        total += sums.double()
        asked += counts
    return total.tolist(), asked.tolist()


def _starts(ticks: int, length: int, cut: int) -> Sequence[int]:
    """Where windows begin: on cuts, evenly spaced, without overlap."""
    if length < cut:
        return []
    count = max(1, min(MOST_WINDOWS, ticks // length))
    spare = (ticks - count * length) // cut
    return [number * length + cut * (spare * number // max(1, count - 1)) for number in range(count)]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]
