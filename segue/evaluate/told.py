"""What words are left of a recording once it was made again: transcripts, and their errors against a reference.

waves (n,) -> text -> errors, words. There are two references: the transcript that the manifest tells, where there is
one and the whole recording is used, and what the recogniser hears in the recording itself. The second one needs no
transcript, but takes the recogniser's own errors for right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from segue import audio
from segue.data.items import readable
from segue.errors import SegueError
from segue.evaluate import measures
from segue.evaluate.bench import Bench
from segue.evaluate.measures import Figure
from segue.evaluate.recordings import Recording
from segue.evaluate.scorers import words
from segue.evaluate.section import Column

COLUMNS = (
    Column("wer", "WER, transcript", "lower", 3),
    Column("cer", "CER, transcript", "lower", 3),
    Column("wer_heard", "WER, as heard in the original", "lower", 3),
    Column("cer_heard", "CER, as heard in the original", "lower", 3),
)
KEYS = tuple(column.key for column in COLUMNS)
CUT_SECONDS = 0.1
"""A recording of which more is not used than this has no transcript of its own."""


@dataclass(frozen=True)
class Heard:
    """Errors of one wave, by reference and kind of unit; None where that reference is missing.

    Attributes:
        text: that was heard; None without a recogniser.
        by_transcript: counts as segue.evaluate.scorers.words.errors gives them.
        by_original: likewise, against what is heard in the original.
    """

    text: str | None
    by_transcript: dict[str, int] | None
    by_original: dict[str, int] | None


def transcript(recording: Recording) -> str | None:
    """The words of all that is used of a recording; None where nobody told them, or it is used in part."""
    text = recording.item.facts.get("text")
    if text is None or not text.strip():
        return None
    whole = audio.duration_seconds(readable(recording.sound))
    return text if whole - recording.seconds <= CUT_SECONDS else None


def listen(bench: Bench, original: Tensor, waves: Mapping[str, Tensor], text: str | None) -> dict[str, Heard]:
    """What is heard in sounds that should say what the original does.

    Args:
        bench: with the scorer `words`.
        original: (n,); its language is taken for theirs.
        waves: name -> (m,). One that is `original` itself is not compared with itself.
        text: what is said in it; None where nobody told.
    """
    known = bench("words", original)
    found = {}
    for name, wave in waves.items():
        heard = known if wave is original or known is None else bench("words", wave, language=known["language"])
        if heard is None:
            found[name] = Heard(None, None, None)
            continue
        against = None if wave is original or known is None else _errors(bench, known["text"], heard["text"])
        found[name] = Heard(heard["text"], None if text is None else _errors(bench, text, heard["text"]), against)
    return found


def _errors(bench: Bench, said: str, heard: str) -> dict[str, int] | None:
    try:
        return words.errors(said, heard)
    except SegueError as error:
        bench.failed.setdefault("words", []).append(str(error))
        return None


def figures(rows: Sequence[Heard], groups: Sequence[int], seed: int) -> dict[str, Figure | None]:
    """Errors of all recordings over all their words (or characters), with intervals over groups."""
    found: dict[str, Figure | None] = {}
    for key, reference, unit in (
        ("wer", "by_transcript", "word"),
        ("cer", "by_transcript", "character"),
        ("wer_heard", "by_original", "word"),
        ("cer_heard", "by_original", "character"),
    ):
        counts = [getattr(row, reference) for row in rows]
        above = [math.nan if one is None else one[f"{unit}_errors"] for one in counts]
        below = [math.nan if one is None else one[f"{unit}s"] for one in counts]
        figure = measures.ratio(above, below, groups, seed)
        found[key] = None if math.isnan(figure.value) else figure
    return found
