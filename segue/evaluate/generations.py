"""Continuations of recordings by each system, made once and kept: what the suites listen to.

prompt, wave, truth (n,) mono at the bundle's sample rate. `truth` is how the recording itself goes on, through the
codec, so that what is compared has the same sound; `wave` is what a system made of the same prompt.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from segue import audio
from segue.evaluate.recordings import Recording
from segue.evaluate.suite import Context
from segue.generate.continuation import Continuation, System
from segue.generate.repetition import Repetition
from segue.units import seconds_to_samples

SEEDS_APART = 1000
"""Between those of two recordings: more than a recording has takes."""
DRAWS = "each recording's own"
LEAST_SECONDS = 2.0
"""Of a recording that must be left after the prompt, for a continuation to be compared with."""


@dataclass(frozen=True)
class Made:
    """A recording, gone on with.

    Attributes:
        number: of the recording among the context's.
        recording: whose beginning is the prompt.
        system: what made it.
        seed: that it was made with.
        prompt: (n,) as recorded.
        wave: (m,) the continuation alone.
        truth: (m,) what the recording goes on with, through the codec; shorter where the recording ends.
        repeated: share of 4-grams of semantic tokens that had come before.
    """

    number: int
    recording: Recording
    system: System
    seed: int
    prompt: Tensor
    wave: Tensor
    truth: Tensor
    repeated: float


def usable(context: Context) -> list[int]:
    """Numbers of the recordings that can be gone on with: long enough, and not silent as long as the prompt."""
    least = context.prompt_seconds + LEAST_SECONDS
    long = [number for number, recording in enumerate(context.recordings) if recording.seconds >= least]
    return [number for number in long if _audible(context, number)]


def continuations(context: Context, system: System = "full", seeds: Sequence[int] = (0,)) -> Iterator[Made]:
    """Every recording that is long enough, gone on with once for each seed, in order.

    Args:
        context: of the suite; its seed is added to each of `seeds`, and what is the recording's own (`seed_of`).
        system: see segue.generate.continuation.
        seeds: of the takes.

    Yields:
        one a recording and seed, made when it is asked for, or read if it was made before.
    """
    numbers = usable(context)
    for done, number in enumerate(numbers):
        for seed in seeds:
            context.tell(f"{system} continuations", done, len(numbers))
            yield _made(context, number, system, seed_of(context.recordings[number], context.seed + seed))
    context.tell(f"{system} continuations", len(numbers), len(numbers))


def seed_of(recording: Recording, seed: int) -> int:
    """A seed that no other recording has: with the same draws for all, a lucky one would be lucky for every recording,
    and intervals over recordings would be too narrow."""
    return seed + SEEDS_APART * int(recording.digest[:8], 16)


def reconstruction(context: Context, number: int) -> Tensor:
    """A recording (N,) through the codec and back, as far as a continuation of it would go."""
    bundle, recording = context.bundle, context.recordings[number]
    end = seconds_to_samples(context.prompt_seconds + context.seconds, bundle.sample_rate)
    key = {**_key(context, number), "made": "reconstruction", "samples": end}
    return context.cache.wave(
        key, bundle.sample_rate, lambda: bundle.reconstruct(recording.wave(bundle.sample_rate)[:end])
    )


def _audible(context: Context, number: int) -> bool:
    """Whether a recording's prompt is no mere silence, which can't be gone on with."""
    rate = context.bundle.sample_rate
    prompt = context.recordings[number].wave(rate)[: seconds_to_samples(context.prompt_seconds, rate)]
    return float(prompt.abs().max()) >= 10 ** (audio.SILENCE_DB / 20)


def _made(context: Context, number: int, system: System, seed: int) -> Made:
    bundle, recording = context.bundle, context.recordings[number]
    rate, cut = bundle.sample_rate, seconds_to_samples(context.prompt_seconds, bundle.sample_rate)
    prompt = recording.wave(rate)[:cut]
    key = _key(context, number) | {
        "made": system,
        "seed": seed,
        "prompt_seconds": context.prompt_seconds,
        "seconds": context.seconds,
    }

    @functools.cache
    def whole() -> Continuation:
        with torch.inference_mode():
            return bundle.continue_audio(prompt, rate, context.seconds, seed=seed, system=system)

    def repetition() -> float:
        counted = Repetition()
        counted.add(whole().tokens.semantic[0])
        return counted.share

    repeated = context.cache.value(key | {"of": "tokens"}, repetition)
    wave = context.cache.wave(key, rate, lambda: whole().wave[0, cut : whole().samples[0]])
    truth = reconstruction(context, number)[cut:]
    return Made(number, recording, system, seed, prompt, wave, truth, repeated)


def _key(context: Context, number: int) -> dict[str, Any]:
    """What everything made of a recording depends on."""
    recording = context.recordings[number]
    return {
        "bundle": context.bundle.fingerprint,
        "recording": recording.identity,
        "seconds_of_recording": recording.seconds,
        **context.bundle.manner.told(),
    }
