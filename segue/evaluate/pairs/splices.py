"""Pairs from sound alone, of any language or music: a beginning with its own continuation, and with a wrong one.

    right  beginning | continuation                    both cut at the same quiet places, with the same crossfades
    wrong  beginning | another recording's             `continuation`: of the same speaker where speakers are known
           beginning | its own segments, last first    `order`
           beginning | its own, played backwards       `reversed`

Wherever a member is cut, the sound fades out, is silent for 40 ms and fades in, at quiet places and in both members, so
that a splice is no clue: a sound joined to itself would go on smoothly, and joined to another would not. What follows
the beginning is as long and as loud in both. Waves (N,) mono; places and lengths in samples.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from segue.errors import SegueError
from segue.evaluate.recordings import Recording
from segue.units import seconds_to_samples

KINDS = ("continuation", "order", "reversed")
BEGINNING_SECONDS = 3.0
CONTINUATION_SECONDS = 3.0
SEGMENTS = 6
"""Of a continuation whose order is reversed: half a second each, a few syllables or notes."""
FADE_SECONDS = 0.02
SKIPPED_SECONDS = 0.04
"""Of sound at each cut, for which silence stands."""
SEARCH_SECONDS = 0.15
"""A cut is moved to the quietest place so far away, at most."""
NEEDED_SECONDS = BEGINNING_SECONDS + CONTINUATION_SECONDS + 2 * SEARCH_SECONDS + SEGMENTS * SKIPPED_SECONDS
MOST_GAIN_DB = 6.0
"""By which a wrong continuation may be made louder or softer to match; more would lift its noise floor audibly."""
LEAST_LEVEL_DB = -50.0
_WINDOW_SECONDS = 0.02
_DRAWS = 10
_KEPT = 64
"""Recordings in memory."""
ROUNDS = 3
"""Pairs of a kind that one recording gives, at most."""


@dataclass(frozen=True)
class Spliced:
    """A pair that was made.

    Attributes:
        id: of the pair.
        kind: see above.
        right: (N,).
        wrong: (N,).
        recording: that it begins with.
        facts: where its parts come from.
    """

    id: str
    kind: str
    right: Tensor
    wrong: Tensor
    recording: Recording
    facts: dict[str, Any]


def from_recordings(
    recordings: Sequence[Recording],
    sample_rate: int,
    limit: int,
    seed: int,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Spliced]:
    """Pairs of every kind, as many as asked for or as there can be, recordings taken in turn.

    Args:
        recordings: those shorter than `NEEDED_SECONDS` are passed over.
        sample_rate: of the pairs, in Hz.
        limit: pairs of each kind, at most.
        seed: of every draw.
        told: how many rounds' recordings are done, and all.

    Raises:
        SegueError: if no recording is long enough.
    """
    long = [recording for recording in recordings if recording.seconds >= NEEDED_SECONDS]
    if not long:
        raise SegueError(
            f"pairs from sound: none of {len(recordings)} recordings is {NEEDED_SECONDS:g} s long; give longer ones"
        )
    order = random.Random(seed).sample(long, len(long))
    partners = {one.item.id: _partners(one, long) for one in long}
    if any(partners[one.item.id] for one in long if "speaker" in one.item.facts):
        partners = {one.item.id: partners[one.item.id] if "speaker" in one.item.facts else [] for one in long}
    made = dict.fromkeys(KINDS, 0)
    by_id = {one.item.id: one for one in long}
    kept = lru_cache(_KEPT)(lambda name: by_id[name].wave(sample_rate))

    def wave_of(one: Recording) -> Tensor:
        return kept(one.item.id)

    for turn in range(ROUNDS):
        for place, one in enumerate(order):
            rng = random.Random(f"{seed} {turn} {one.item.id}")
            for kind in KINDS:
                if made[kind] >= limit:
                    continue
                pair = _pair(one, kind, partners[one.item.id], wave_of, sample_rate, rng, f"{one.item.id} {turn}")
                if pair is not None:
                    made[kind] += 1
                    yield pair
            told(turn * len(order) + place + 1, ROUNDS * len(order))
            if min(made.values()) >= limit:
                return


def joined(beginning: Tensor, segments: Sequence[Tensor], fade_samples: int, silent_samples: int) -> Tensor:
    """A beginning (n,) and segments (m,), silence before each, every end faded but that where the sound begins."""
    rising = torch.sin(torch.linspace(0, torch.pi / 2, fade_samples)).square()
    pieces = []
    for number, piece in enumerate([beginning, *segments]):
        faded = piece.clone()
        faded[-fade_samples:] *= rising.flip(0)
        if number:
            pieces.append(piece.new_zeros(silent_samples))
            faded[:fade_samples] *= rising
        pieces.append(faded)
    return torch.cat(pieces)


def quietest(wave: Tensor, at: int, within: int, window: int) -> int:
    """The middle of the quietest stretch of `window` samples that lies at most `within` from a place.

    Args:
        wave: (N,).
        at: the place.
        within: samples to both sides.
        window: samples.
    """
    first, last = max(0, at - within - window // 2), min(len(wave), at + within + window // 2)
    if last - first <= window:
        return min(max(at, 0), len(wave))
    power = wave[first:last].double().square().unfold(0, window, max(1, window // 4)).mean(1)
    return first + int(power.argmin()) * max(1, window // 4) + window // 2


def level(wave: Tensor) -> float:
    """Root mean square."""
    return float(wave.double().square().mean().sqrt())


def _partners(one: Recording, all_of_them: Sequence[Recording]) -> list[Recording]:
    """Other recordings of the same speaker; of nobody known, where the speaker isn't told."""
    speaker = one.item.facts.get("speaker")
    return [other for other in all_of_them if other is not one and other.item.facts.get("speaker") == speaker]


def _pair(
    one: Recording,
    kind: str,
    partners: Sequence[Recording],
    wave_of: Callable[[Recording], Tensor],
    rate: int,
    rng: random.Random,
    name: str,
) -> Spliced | None:
    """A pair from a drawn place; None where there is no partner, or nothing loud enough was drawn."""
    if kind == "continuation" and not partners:
        return None
    wave = wave_of(one)
    for _ in range(_DRAWS):
        cut = _cut(wave, rate, rng)
        other = rng.choice(partners) if kind == "continuation" else one
        beginning, segments = cut.beginning, cut.segments if kind == "order" else [cut.whole]
        facts: dict[str, Any] = {"cut_seconds": round(cut.place / rate, 3), "recording": one.item.id}
        if kind == "continuation":
            start = rng.randrange(max(1, len(wave_of(other)) - len(cut.whole)))
            start = min(quietest(wave_of(other), start, *_search(rate)), max(0, len(wave_of(other)) - len(cut.whole)))
            found = wave_of(other)[start : start + len(cut.whole)]
            if len(found) < len(cut.whole) or level(found) < 10 ** (LEAST_LEVEL_DB / 20):
                continue
            gain = level(cut.whole) / level(found)
            if not 10 ** (-MOST_GAIN_DB / 20) <= gain <= 10 ** (MOST_GAIN_DB / 20):
                continue
            wrong = [found * gain]
            facts |= {"wrong_recording": other.item.id, "wrong_seconds": round(start / rate, 3)}
            facts["same_speaker"] = "speaker" in one.item.facts
        else:
            wrong = segments[::-1] if kind == "order" else [cut.whole.flip(0)]
        if level(beginning) < 10 ** (LEAST_LEVEL_DB / 20) or level(cut.whole) < 10 ** (LEAST_LEVEL_DB / 20):
            continue
        lengths = seconds_to_samples(FADE_SECONDS, rate), seconds_to_samples(SKIPPED_SECONDS, rate)
        right, other_way = joined(beginning, segments, *lengths), joined(beginning, wrong, *lengths)
        peak = max(1.0, float(right.abs().max()), float(other_way.abs().max()))
        return Spliced(name, kind, right / peak, other_way / peak, one, facts)
    return None


@dataclass(frozen=True)
class _Cut:
    """A recording cut: what comes before `place`, what comes after it, and that in segments with gaps between them."""

    place: int
    beginning: Tensor
    whole: Tensor
    segments: list[Tensor]


def _search(rate: int) -> tuple[int, int]:
    return seconds_to_samples(SEARCH_SECONDS, rate), seconds_to_samples(_WINDOW_SECONDS, rate)


def _cut(wave: Tensor, rate: int, rng: random.Random) -> _Cut:
    """At a drawn place, moved to where it is quiet; segments end where it is quiet, too."""
    before, after, skipped = (
        seconds_to_samples(seconds, rate) for seconds in (BEGINNING_SECONDS, CONTINUATION_SECONDS, SKIPPED_SECONDS)
    )
    within, window = _search(rate)
    spare = len(wave) - before - after - 2 * within - SEGMENTS * skipped
    place = quietest(wave, before + within + rng.randrange(max(1, spare)), within, window)
    start = place + skipped
    segments, at = [], start
    for number in range(1, SEGMENTS):
        aimed = start + number * (after // SEGMENTS + skipped) - skipped
        end = quietest(wave, aimed, min(within, after // SEGMENTS // 4), window)
        segments.append(wave[at:end])
        at = end + skipped
    last = start + after + (SEGMENTS - 1) * skipped
    segments.append(wave[at:last])
    return _Cut(place, wave[place - before : place], wave[start : start + after], segments)
