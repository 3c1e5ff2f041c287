"""The suite `codec`: how sound comes back from the codec, by bitrate.

Recordings -> codes of the first q codebooks -> waves -> scores against the recording, and of quality alone. Codes are
those that stages know, the encoder's own; and refined, as files have them, for a few of the bitrates. The recording
itself stands in the table too. The reference is the sound at the codec's sample rate, so that bandwidth lost above it
does not count. Of speech also the words that a recogniser hears otherwise than in the recording.

Source: AudioLM, arXiv 2209.03143, section III.B (SoundStream at several bitrates); see each scorer.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from segue.codec import file
from segue.codec.seam import Codec
from segue.errors import SegueError
from segue.evaluate import spoken, told
from segue.evaluate.bench import Bench
from segue.evaluate.cases import each, means
from segue.evaluate.fidelity import QUALITY_SECONDS, fidelity, quality
from segue.evaluate.measures import Figure
from segue.evaluate.players import player
from segue.evaluate.section import Column, Player, Section, Table
from segue.evaluate.suite import Context
from segue.units import seconds_to_samples

CODEBOOKS = (1, 3, 6, 12)
SIDE_BY_SIDE = (3, 12)
LONGEST_SECONDS = 10.0
LEAST_SECONDS = 1.0
PLAYED = 4
ORIGINAL = "original"
REFINED = ", refined"
"""Ends the names of rows whose codes are those of files."""
WORDS = "wer_heard"
TITLES = {
    "pesq": "PESQ-WB",
    "stoi": "STOI",
    "visqol": "ViSQOL",
    "si_sdr": "SI-SDR",
    "distillmos": "DistillMOS",
    "words": "words",
}
COLUMNS = {
    "kbit_s": Column("kbit_s", "kbit/s"),
    "pesq": Column("pesq", "PESQ-WB", "higher"),
    "stoi": Column("stoi", "STOI", "higher", 3),
    "visqol": Column("visqol", "ViSQOL", "higher"),
    "si_sdr": Column("si_sdr", "SI-SDR, dB", "higher", 1),
    "distillmos": Column("distillmos", "DistillMOS", "higher"),
    "words": next(column for column in told.COLUMNS if column.key == WORDS),
}
SCORERS = {"speech": tuple(TITLES), "piano": ("visqol", "si_sdr")}


def run(context: Context) -> Section:
    """Measure the codec; the option `codebooks` is a list of how many to use.

    Raises:
        SegueError: if no recording is long enough, or the codec has not so many codebooks.
    """
    began, codec, rate = time.monotonic(), context.bundle.codec, context.bundle.sample_rate
    counts = _counts(context)
    numbers = [number for number, one in enumerate(context.recordings) if one.seconds >= LEAST_SECONDS]
    if not numbers:
        raise SegueError(f"no recording is {LEAST_SECONDS:g} s long; give longer ones")
    bench = Bench(SCORERS[context.kind], context.kind, rate, context.cache)
    groups = [context.groups[number] for number in numbers]
    ways = _ways(codec, counts)
    players: list[Player] = []
    listened: list[dict[str, told.Heard]] = []

    def measured(number: int) -> dict[str, dict[str, Any]]:
        item = context.recordings[number].item
        wave = context.recordings[number].wave(rate)[: seconds_to_samples(LONGEST_SECONDS, rate)]
        found: dict[str, dict[str, Any]] = {ORIGINAL: quality(bench, wave)}
        waves = {ORIGINAL: wave}
        shown = len(players) < PLAYED * (1 + sum(way.played for way in ways))
        if shown:
            players.append(player(context, f"codec-{number:04d}-original", ORIGINAL, item.id, wave))
        for way in ways:
            made = waves[way.name] = _made(context, number, wave, way)
            found[way.name] = fidelity(bench, wave, made)
            if shown and way.played:
                players.append(player(context, f"codec-{number:04d}-{way.key}", way.name, item.id, made))
        if context.kind == "speech":
            listened.append(told.listen(bench, wave, waves, None))
        return found

    values = each(context, "codec", numbers, measured)
    table: dict[str, dict[str, Any]] = {}
    details: dict[str, Any] = {}
    for name in (*(way.name for way in ways), ORIGINAL):
        mine = [one[name] for one in values]
        keys = sorted({key for one in mine for key in one})
        table[name] = dict(means(context, groups, {key: [one.get(key, math.nan) for one in mine] for key in keys}))
        if bench.has("words"):
            heard = [one[name] for one in listened]
            table[name][WORDS] = told.figures(heard, groups, context.seed)[WORDS]
            mine = [
                {**one, "heard": said.text, "by_original": said.by_original}
                for one, said in zip(mine, heard, strict=True)
            ]
        details[name] = [
            {"recording": context.recordings[number].item.id, **one} for number, one in zip(numbers, mine, strict=True)
        ]
    bits = codec.frame_rate * math.log2(codec.codebook_size) / 1000
    for way in ways:
        table[way.name]["kbit_s"] = Figure(way.count * bits)
    table[ORIGINAL]["kbit_s"] = Figure(16 * rate / 1000)
    only = " PESQ, STOI, DistillMOS and words are only for speech." if context.kind == "piano" else ""
    how = (
        " Refined, as files are: fitted to the sound through the decoder, and searched for where codebooks are few."
        if any(way.refined for way in ways)
        else ""
    )
    opinion = f" DistillMOS of {QUALITY_SECONDS:g} s." if context.kind == "speech" else ""
    mode = "audio mode at 48 kHz" if context.kind == "piano" else "speech mode"
    return Section(
        suite="codec",
        title="Codec",
        about=f"{len(numbers)} recordings, the first {LONGEST_SECONDS:g} s of each at most, through the codec with so "
        f"many of its {codec.num_codebooks} codebooks.{how} ViSQOL in {mode}.{opinion} Intervals: 95 %, by bootstrap "
        f"over {len(set(groups))} groups.{only} The original isn't compared with itself.",
        tables=(Table("codec", "Quality by bitrate", tuple(COLUMNS[key] for key in _columns(context)), table),),
        players=tuple(players),
        notes=tuple(bench.notes(TITLES)),
        details=details,
        versions=bench.versions,
        not_measured=spoken.not_measured(bench, TITLES, {"words": (WORDS,)}),
        seconds=time.monotonic() - began,
    )


@dataclass(frozen=True)
class _Way:
    """Through the codec.

    Attributes:
        count: of codebooks.
        refined: whether codes are taken as files have them.
        played: whether the first recordings are to be heard so.
    """

    count: int
    refined: bool
    played: bool

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.count} codebook{'s' if self.count > 1 else ''}{REFINED if self.refined else ''}"

    @property
    def key(self) -> str:
        """Of its sounds."""
        return f"{self.count:02d}{'-refined' if self.refined else ''}"


def _ways(codec: Codec, counts: list[int]) -> list[_Way]:
    """Every bitrate, and refined those that are played; a codec that can't refine has the former alone."""
    ways = []
    for count in counts:
        shown = count in _shown(counts)
        ways.append(_Way(count, False, shown))
        if shown and file.refinement_of(codec):
            ways.append(_Way(count, True, True))
    return ways


def _columns(context: Context) -> tuple[str, ...]:
    return ("kbit_s", *SCORERS[context.kind])


def _counts(context: Context) -> list[int]:
    has, asked = context.bundle.codec.num_codebooks, context.options.get("codebooks")
    if asked is None:
        return sorted({count for count in CODEBOOKS if count < has} | {has})
    wrong = [count for count in asked if not (isinstance(count, int) and 1 <= count <= has)]
    if wrong or not asked:
        raise SegueError(f"codebooks {list(asked)}: this codec has {has}; give numbers from 1 to {has}")
    return sorted(set(asked))


def _shown(counts: list[int]) -> list[int]:
    """Those that are played side by side."""
    return [count for count in counts if count in SIDE_BY_SIDE] or counts[-1:]


def _made(context: Context, number: int, wave: Tensor, way: _Way) -> Tensor:
    bundle = context.bundle
    key = {
        "codec": bundle.fingerprints["codec"],
        "recording": context.recordings[number].identity,
        "samples": len(wave),
        "codebooks": way.count,
    }
    if way.refined:
        key["refinement"] = file.refinement_of(bundle.codec)

    def make() -> Tensor:
        if way.refined:
            return file.decode(bundle.codec, file.encode(bundle.codec, wave, way.count))
        return bundle.reconstruct(wave, way.count)

    return context.cache.wave(key, bundle.sample_rate, make)
