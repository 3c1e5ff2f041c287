"""The unit of work: items -> rows of a token store. The same function in one process, in many, and on many machines.

wave (N,) at each tokenizer's sample rate -> semantic (T_s,) and codes (Q, T). A clip that is not a whole recording has
the id ITEM#START-STOP, in seconds of the recording.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from segue import audio
from segue.data import shards
from segue.data.aligned import Tokenizers, encode_aligned
from segue.data.items import Item, Skipped, Sound, readable
from segue.data.store import StoreHeader, StoreRow
from segue.data.voice import SAMPLE_RATE, Cutting, FindSpeech, Span, joined, pieces, speech_finder
from segue.errors import SegueError

_CLIP = re.compile(r"#\d+\.\d{3}-\d+\.\d{3}$")
Loader = Callable[[], Tokenizers]


@dataclass(frozen=True)
class Job:
    """What an engine is to do.

    Attributes:
        items: to be tokenised, none of which is in the store.
        store: folder of the store.
        header: of the store.
        cutting: how recordings are cut into clips.
    """

    items: Sequence[Item]
    store: Path
    header: StoreHeader
    cutting: Cutting


@dataclass
class Outcome:
    """What became of some items.

    Attributes:
        items: their ids.
        rows: clips that are still to be written.
        written: clips that the engine wrote itself.
        seconds: that those last.
        skipped: what was left out.
    """

    items: list[str]
    rows: list[StoreRow] = field(default_factory=list)
    written: int = 0
    seconds: float = 0.0
    skipped: list[Skipped] = field(default_factory=list)


Engine = Callable[[Job], Generator[Outcome, None, None]]


def check_same(tokenizers: Tokenizers, header: StoreHeader) -> None:
    """Refuse tokenizers other than those that the store is filled by.

    Raises:
        SegueError: naming what differs.
    """
    found = tokenizers.header
    if found != header:
        raise SegueError(f"a worker loaded other tokenizers than this process: {found}, expected {header}")


def item_of(clip: str) -> str:
    """The id of the item that a clip was cut from."""
    return _CLIP.sub("", clip)


class Worker:
    """Tokenises items.

    Args:
        tokenizers: to use.
        cutting: how recordings are cut into clips.

    Raises:
        SegueError: if speech is to be found and silero-vad is not installed.
    """

    def __init__(self, tokenizers: Tokenizers, cutting: Cutting) -> None:
        self._tokenizers = tokenizers
        self._cutting = cutting
        self._find_speech: FindSpeech | None = speech_finder(cutting.max_seconds) if cutting.trim else None

    def __call__(self, items: Sequence[Item]) -> Iterator[Outcome]:
        """One outcome an item; what can't be used is skipped with the reason."""
        for item, sound in shards.sounds(items):
            yield self._tokenise(item, sound)

    def _tokenise(self, item: Item, sound: Sound | SegueError) -> Outcome:
        outcome = Outcome([item.id])
        try:
            if isinstance(sound, SegueError):
                raise sound
            seconds = audio.duration_seconds(readable(sound))
            if seconds < audio.MINIMUM_SECONDS:
                least = audio.MINIMUM_SECONDS
                raise SegueError(f"{item}: {seconds:.3f} s of sound, at least {least} s are needed")
            spans = self._spans(item, sound, seconds)
        except SegueError as error:
            outcome.skipped.append(Skipped(item.id, str(item), str(error)))
            return outcome
        for start, stop in spans:
            whole = start < 1e-3 and seconds - stop < 1e-3
            clip = "" if whole else f"#{start:.3f}-{stop:.3f}"
            try:
                outcome.rows.append(self._row(item, sound, (start, seconds if whole else stop), clip))
            except SegueError as error:
                outcome.skipped.append(Skipped(item.id + clip, str(item) + clip, str(error)))
        return outcome

    def _spans(self, item: Item, sound: Sound, seconds: float) -> list[Span]:
        if self._find_speech is None:
            return pieces((0.0, seconds), self._cutting.max_seconds)
        speech = self._find_speech(_wave(sound, (0.0, seconds), SAMPLE_RATE))
        if not speech:
            raise SegueError(f"{item}: no speech found in it; sound without speech is for tokenising without trimming")
        return joined(speech, self._cutting.max_seconds)

    def _row(self, item: Item, sound: Sound, span: Span, clip: str) -> StoreRow:
        semantic, codec = self._tokenizers.semantic, self._tokenizers.codec
        codec_wave = _wave(sound, span, codec.sample_rate)
        audio.check(codec_wave.numpy(), codec.sample_rate, f"{item}{clip}")
        same = semantic.sample_rate == codec.sample_rate
        wave = codec_wave if same else _wave(sound, span, semantic.sample_rate)
        units, codes = encode_aligned(wave, semantic, codec, codec_wave, self._tokenizers.device)
        return StoreRow(
            id=item.id + clip,
            source=item.facts.get("source", item.folder),
            speaker=item.facts.get("speaker", ""),
            seconds=codec_wave.shape[-1] / codec.sample_rate,
            licence=item.facts.get("licence", ""),
            consent=item.facts.get("consent"),
            semantic=units.numpy(),
            codes=codes.numpy(),
        )


def _wave(sound: Sound, span: Span, sample_rate: int) -> Tensor:
    """A stretch of a sound, (N,) at `sample_rate`."""
    return torch.from_numpy(audio.read_crop(readable(sound), span[0], span[1] - span[0], sample_rate))
