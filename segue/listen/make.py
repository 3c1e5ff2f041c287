"""From a bundle and held-out recordings to a listening test: a page with its sounds, and a key apart.

What goes on is made and kept as the suites make it, so that a stopped command goes on. Prompt and truth go through the
codec, as what is made does by its nature, so that the codec's sound is no hint.

Shapes: wave (N,) mono at the bundle's rate.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from segue import audio
from segue.artifact import check_writable, written_folder
from segue.bundle import Bundle, load
from segue.errors import SegueError
from segue.evaluate import generations
from segue.evaluate.cache import Cache
from segue.evaluate.recordings import Recording, held_out
from segue.evaluate.suite import Context
from segue.generate.continuation import SYSTEMS, System
from segue.listen import sounds
from segue.listen.key import PAGE, Key, is_test
from segue.listen.loudness import loudness
from segue.listen.page import SOUNDS, page, read_texts
from segue.listen.plan import Kind, Trial, What, checks, name, plan
from segue.units import seconds_to_samples

LEAST_SECONDS = 0.1
"""Of prompt and continuation each."""

MOST_QUIETER_DB = 20.0
"""A recording whose prompt, or whose continuation, is quieter than the whole by more is as good as silent there."""

_MEASURED_HZ = 16_000


@dataclass(frozen=True)
class Options:
    """What test to make.

    Attributes:
        kind: `real`: recorded or made? `preference`: which of two systems?
        trials: of a rater, checks and the repeat not counted.
        prompt_seconds: that all sounds of a recording begin with.
        seconds: that follow.
        seed: of the choice of recordings, the continuations, halves and names.

    Raises:
        SegueError: if a length is too short, or `trials` is odd or below 2.
    """

    kind: Kind = "real"
    trials: int = 20
    prompt_seconds: float = 3.0
    seconds: float = 7.0
    seed: int = 0

    def __post_init__(self) -> None:
        for option, value in (("--prompt-seconds", self.prompt_seconds), ("--seconds", self.seconds)):
            if not LEAST_SECONDS <= value < float("inf"):
                raise SegueError(f"{option} {value:g}: at least {LEAST_SECONDS:g}")
        if self.trials < 2 or self.trials % 2:
            raise SegueError(f"--trials {self.trials}: an even number from 2 on, half of each kind")


@dataclass(frozen=True)
class Maker:
    """One of the two that a test compares.

    Attributes:
        label: its name in the key and the score.
        bundle: that makes the sound.
        system: how.
    """

    label: str
    bundle: Bundle
    system: System


def makers(bundle: Bundle, against: str | None, kind: Kind) -> list[Maker]:
    """What a test compares: one system with recordings, or two with each other.

    Args:
        bundle: that is tested.
        against: a system of it, or another bundle by name or folder; None for `acoustic-only`.
        kind: what is asked.

    Raises:
        SegueError: if `against` is nothing to be compared with, or is given where recordings are.
    """
    ours = Maker("full", bundle, "full")
    if kind == "real":
        if against is not None:
            raise SegueError(
                f"--against {against}: a test of kind real compares with recordings; add --kind preference"
            )
        return [ours]
    against = against or "acoustic-only"
    system = next((one for one in SYSTEMS if one == against), None)
    if system == "full":
        raise SegueError("--against full: that is the system itself; one of acoustic-only, semantic-only, or a bundle")
    if system is not None:
        return [ours, Maker(system, bundle, system)]
    other = load(against)
    if other.fingerprint == bundle.fingerprint:
        raise SegueError(f"--against {against}: that is the bundle itself; give another")
    labels = [one.name if bundle.name != other.name else f"{one.name} {one.fingerprint[:8]}" for one in (bundle, other)]
    return [Maker(labels[0], bundle, "full"), Maker(labels[1], other, "full")]


def make(
    compared: Sequence[Maker],
    data: Sequence[Path],
    out: Path,
    options: Options,
    cache: Path | None = None,
    texts: Path | None = None,
    tell: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> tuple[Key, list[str]]:
    """Make a test.

    Args:
        compared: see `makers`.
        data: held-out folders, tar shards and manifests.
        out: folder of the test.
        options: what to make.
        cache: of what was made; None for a folder in `out`.
        texts: of the page, in another language.
        tell: told what is being done, steps done and steps in all.

    Returns:
        the key, and a line on each recording that was left out.

    Raises:
        SegueError: if there is a test already, the recordings don't suffice, or something can't be read or written.
    """
    if is_test(out):
        raise SegueError(f"{out}: holds a listening test, and maybe answers; give another --out")
    spoken = read_texts(texts)
    check_writable(out / PAGE)
    recordings, notes = _recordings(data, options)
    rng = _rng(compared, recordings, options)
    test, trials = name(rng), plan(options.kind, options.trials, rng)
    left_first, ears = rng.random() < 0.5, name(rng)
    clips, gains = _clips(compared, recordings, trials, out, options, Cache(cache or out / "cache"), tell)
    rate = {"second": compared[-1].bundle.sample_rate}
    first_rate = compared[0].bundle.sample_rate
    with written_folder(out / PAGE) as folder:
        for trial in trials:
            for heard in trial.sounds:
                wave = clips[trial.recording, heard.what]
                audio.write(folder / SOUNDS / f"{heard.id}.wav", wave, rate.get(heard.what, first_rate))
        audio.write(folder / SOUNDS / f"{ears}.wav", sounds.ears(left_first, first_rate), first_rate)
        lengths = options.prompt_seconds, options.seconds
        whole = page(test, options.kind, trials, ears, lengths, spoken)
        (folder / "index.html").write_text(whole, encoding="utf-8")
    names = tuple(recording.item.id for recording in recordings)
    facts = {
        "options": asdict(options),
        "bundles": [
            {"name": one.bundle.name, "fingerprint": one.bundle.fingerprint, **one.bundle.manner.told()}
            for one in compared
        ],
        "segue": version("segue"),
        "gains_db": gains,
    }
    labels = ("real", compared[0].label) if options.kind == "real" else (compared[0].label, compared[1].label)
    key = Key(test, options.kind, labels, tuple(trials), names, left_first, facts)
    key.save(out)
    return key, notes


def _recordings(data: Sequence[Path], options: Options) -> tuple[list[Recording], list[str]]:
    """Those of the trials, then those of the checks, in an order drawn by the seed; speakers take turns.

    Raises:
        SegueError: if there are too few that sound before and after the cut.
    """
    wanted = options.trials + checks(options.kind)
    least = options.prompt_seconds + max(options.seconds, generations.LEAST_SECONDS)
    limit = 4 * wanted
    while True:
        found, notes = held_out(data, limit, least, options.seed, least)
        rng = random.Random(options.seed)
        usable: list[Recording] = []
        silent = 0
        for one in _in_turn(found, rng):
            if len(usable) < wanted:
                if _is_heard(one, options):
                    usable.append(one)
                else:
                    silent += 1
        if silent:
            notes.append(f"{silent} recordings left out: silent before or after {options.prompt_seconds:g} s")
        if len(usable) == wanted:
            return rng.sample(usable, wanted), notes
        if len(found) < limit:
            break
        limit *= 4
    raise SegueError(
        f"{', '.join(map(str, data))}: {len(usable)} recordings of {least:g} s or more that aren't silent before or "
        f"after {options.prompt_seconds:g} s; --trials {options.trials} and {checks(options.kind)} checks take "
        f"{wanted}; ask for fewer or shorter ones (--seconds)"
    )


def _in_turn(recordings: Sequence[Recording], rng: random.Random) -> list[Recording]:
    """One recording of each speaker, in a drawn order, before a second of any."""
    turn: Counter[int] = Counter()
    placed = []
    for one in rng.sample(recordings, len(recordings)):
        turn[one.group] += 1
        placed.append((turn[one.group], one))
    return [one for _, one in sorted(placed, key=lambda pair: pair[0])]


def _is_heard(recording: Recording, options: Options) -> bool:
    """Whether a recording is to be heard both before and after the cut."""
    wave = recording.wave(_MEASURED_HZ)
    ends = options.prompt_seconds, options.prompt_seconds + options.seconds
    cut, end = (seconds_to_samples(at, _MEASURED_HZ) for at in ends)
    whole = loudness(wave[:end], _MEASURED_HZ)
    quiet = min(loudness(part, _MEASURED_HZ) for part in (wave[:cut], wave[cut:end]))
    return quiet > whole - MOST_QUIETER_DB


def _rng(compared: Sequence[Maker], recordings: Sequence[Recording], options: Options) -> random.Random:
    """Draws that are the same for the same test alone, so that no two tests have names in common."""
    makers_ = [[one.label, one.bundle.fingerprint, one.bundle.manner.told(), one.system] for one in compared]
    told = json.dumps([asdict(options), makers_, [one.identity for one in recordings]])
    return random.Random(hashlib.sha256(told.encode()).digest())


def _clips(
    compared: Sequence[Maker],
    recordings: Sequence[Recording],
    trials: Sequence[Trial],
    out: Path,
    options: Options,
    cache: Cache,
    tell: Callable[[str, int, int], None],
) -> tuple[dict[tuple[int, What], Tensor], dict[str, list[float]]]:
    """Every (recording, what follows) that a trial needs, and the gains of what was made, in dB, by label."""
    needed = {(trial.recording, heard.what) for trial in trials for heard in trial.sounds}
    context = Context(
        bundle=compared[0].bundle,
        recordings=tuple(recordings),
        kind="speech",
        out=out,
        cache=cache,
        seed=options.seed,
        prompt_seconds=options.prompt_seconds,
        seconds=options.seconds,
        tell=tell,
    )
    order: tuple[What, What] = ("first", "second")
    made: dict[tuple[int, What], Tensor] = {}
    for what, one in zip(order, compared, strict=False):
        numbers = sorted(number for number, other in needed if other == what)
        theirs = replace(context, bundle=one.bundle, recordings=tuple(recordings[number] for number in numbers))
        for each in generations.continuations(theirs, one.system):
            made[numbers[each.number], what] = each.wave
    clips: dict[tuple[int, What], Tensor] = {}
    gains: dict[str, list[float]] = {one.label: [] for one in compared}
    generator = torch.Generator().manual_seed(options.seed)
    for number in range(len(recordings)):
        own: dict[What, Tensor] = {}
        least = 1.0  # one factor for both systems, or the louder one would be preferred
        for what, one in zip(order, compared, strict=False):
            wanted = {other for of, other in needed if of == number and (other == "second") == (what == "second")}
            if wanted:
                found, factor = _of_recording(replace(context, bundle=one.bundle), number, wanted, made, generator)
                own |= {other: clip for other, (clip, _) in found.items()}
                least = min(least, factor)
                gains[one.label] += [round(gain, 2) for other, (_, gain) in found.items() if other == what]
        clips |= {(number, what): clip * least for what, clip in own.items()}
    return clips, gains


def _of_recording(
    context: Context, number: int, wanted: set[What], made: dict[tuple[int, What], Tensor], generator: torch.Generator
) -> tuple[dict[What, tuple[Tensor, float]], float]:
    """What `sounds.matched` makes of one recording with one bundle's codec."""
    rate = context.bundle.sample_rate
    cut, end = (
        seconds_to_samples(at, rate) for at in (context.prompt_seconds, context.prompt_seconds + context.seconds)
    )
    prompt = context.bundle.reconstruct(context.recordings[number].wave(rate)[:cut])
    truth = generations.reconstruction(context, number)[cut:end]
    follows: dict[What, Tensor] = {}
    for what in sorted(wanted):
        if what == "real":
            follows[what] = truth
        elif what in ("first", "second"):
            follows[what] = made[number, what]
        elif what == "noise":
            follows[what] = sounds.noise(end - cut, generator)
        else:
            follows[what] = sounds.beeps(1 if what == "one beep" else 2, end - cut, rate)
    return sounds.matched(prompt, truth, follows, rate)
