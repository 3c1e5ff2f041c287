"""Which stretches of a recording become clips: all of it, pieces of a longest length, or where somebody speaks.

wave (N,) mono float32 at 16 kHz -> spans (start, stop) in seconds, in whole milliseconds. Speech is found by
Silero VAD (https://github.com/snakers4/silero-vad, MIT), which comes with the extra `vad`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from segue.audio import MINIMUM_SECONDS
from segue.errors import SegueError

SAMPLE_RATE = 16_000
MARGIN_SECONDS = 0.1
PAUSE_SECONDS = 1.0
Span = tuple[float, float]
FindSpeech = Callable[[Tensor], list[Span]]


@dataclass(frozen=True)
class Cutting:
    """How recordings are cut into clips.

    Attributes:
        trim: keep what lies around speech only; pauses of up to a second stay.
        max_seconds: the longest clip; longer ones are cut into pieces.
    """

    trim: bool = False
    max_seconds: float = math.inf

    def __post_init__(self) -> None:
        if not self.max_seconds >= 1:
            raise SegueError(f"max_seconds {self.max_seconds}: clips of at least 1 s are wanted")


def speech_finder(max_seconds: float = math.inf) -> FindSpeech:
    """Silero VAD, ready for use: wave (N,) at 16 kHz -> the stretches with speech in it.

    Args:
        max_seconds: longer stretches are cut, in a pause if there is one.

    Raises:
        SegueError: if silero-vad is not installed.
    """
    threads = torch.get_num_threads()
    try:
        import silero_vad
    except ImportError as error:
        raise SegueError('finding speech needs silero-vad, which is missing; pip install "segue[vad]"') from error
    finally:
        torch.set_num_threads(threads)  # importing silero_vad sets them to one
    model: Any = silero_vad.load_silero_vad()

    def find(wave: Tensor) -> list[Span]:
        found = silero_vad.get_speech_timestamps(
            wave,
            model,
            sampling_rate=SAMPLE_RATE,
            max_speech_duration_s=max_seconds,
            speech_pad_ms=round(1000 * MARGIN_SECONDS),
        )
        return [(round(one["start"] / SAMPLE_RATE, 3), round(one["end"] / SAMPLE_RATE, 3)) for one in found]

    return find


def joined(stretches: Sequence[Span], max_seconds: float = math.inf) -> list[Span]:
    """Stretches of speech as clips: neighbours go together over a pause of up to `PAUSE_SECONDS`, if they fit."""
    spans: list[Span] = []
    for start, stop in stretches:
        if spans and start - spans[-1][1] <= PAUSE_SECONDS and stop - spans[-1][0] <= max_seconds:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((start, stop))
    return [piece for span in spans for piece in pieces(span, max_seconds)]


def pieces(span: Span, max_seconds: float) -> list[Span]:
    """A span cut into the fewest pieces of one length, none longer than `max_seconds`."""
    start, stop = span
    count = max(1, math.ceil((stop - start) / max_seconds - 1e-9))
    bounds = [start, *(round(start + (stop - start) * index / count, 3) for index in range(1, count)), stop]
    return [(a, b) for a, b in itertools.pairwise(bounds) if b - a >= MINIMUM_SECONDS]
