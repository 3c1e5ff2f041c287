"""Pairs that are spoken: words and pseudo-words, sentences and wrong ones, by a synthesiser that takes phonemes.

hibari-tts (extra `synth`) speaks English in a voice that is in its package, and in others that it fetches; other
languages are eSpeak NG's (espeak.py). Both members
are spoken at such speeds that they last as long as their mean would, are padded to the same sample, and are
equally loud. Waves (N,) mono at segue.evaluate.pairs.make.RATE.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from segue import audio
from segue.errors import SegueError
from segue.evaluate.pairs.espeak import PREFIX, Espeak
from segue.evaluate.pairs.make import RATE, Made
from segue.evaluate.pairs.splices import level
from segue.evaluate.pairs.words import pseudo_words

LEVEL_DB = -26.0
MOST_STRETCH = 1.15
"""Of a member, to be as long as the other; beyond, it sounds hurried or drawled and the pair is left out."""
Told = Callable[[int, int], None]


class Synthesiser(Protocol):
    """What speaks.

    Attributes:
        voice: who.
        told: package and version.
        licence: of what it makes.
    """

    voice: str
    told: str
    licence: str

    def phonemes(self, text: str) -> str:
        """How a text is pronounced."""

    def known(self) -> list[str]:
        """Pronunciations of all words in its dictionary."""

    def speak(self, phonemes: str, speed: float) -> Tensor:
        """(N,) at 16 kHz, the same every time."""


class Hibari:
    """The package hibari-tts.

    Args:
        voice: `heart` is in the package; the package fetches others when they are first asked for.

    Raises:
        SegueError: if it isn't installed, or the voice can't be had.
    """

    def __init__(self, voice: str = "heart") -> None:
        try:
            from hibari import Hibari as Package
            from hibari.voices import VOICES
        except ImportError as error:
            raise SegueError('spoken pairs need hibari-tts; pip install "segue[synth]"') from error
        if voice not in VOICES:
            raise SegueError(f"--voice {voice}: one of {', '.join(VOICES)}")
        try:
            self._package = Package(voice=voice)
        except (RuntimeError, OSError) as error:
            raise SegueError(
                f"--voice {voice}: can't be fetched ({' '.join(str(error).split())}); use heart"
            ) from error
        self.voice = voice
        self.told = f"hibari-tts {importlib.metadata.version('hibari-tts')}"
        self.licence = "synthesised by hibari-tts (Apache-2.0)"

    def phonemes(self, text: str) -> str:
        """How a text is pronounced."""
        return " ".join(self._package.phonemize(text))

    def known(self) -> list[str]:
        """Pronunciations of all words in its dictionary."""
        found: list[str | None] = []
        for words in (self._package.g2p.lexicon.golds, self._package.g2p.lexicon.silvers):
            for entry in words.d.values():
                found += entry.values() if isinstance(entry, dict) else [entry]
        return [pronunciation for pronunciation in found if pronunciation]

    def speak(self, phonemes: str, speed: float) -> Tensor:
        """(N,) at 16 kHz, the same every time."""
        wave = self._package.from_phonemes(phonemes, speed=speed, seed=0)
        return torch.from_numpy(audio.to_mono(wave, self._package.sample_rate, RATE))


def synthesiser(name: str) -> Synthesiser:
    """A voice by its name: one of hibari-tts, or `espeak:` and a language.

    Raises:
        SegueError: if it can't be had.
    """
    return Espeak(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else Hibari(name)


def read_words(path: Path) -> dict[str, str]:
    """A list of words, one a line, with its pronunciation after a tab where the synthesiser shouldn't choose it.

    Returns:
        word -> pronunciation; empty where none is given.

    Raises:
        SegueError: if it can't be read or a line has more columns.
    """
    words: dict[str, str] = {}
    for number, fields in _rows(path):
        if len(fields) > 2 or not fields[0] or " " in fields[0]:
            raise SegueError(f"{path}, line {number}: a word was expected, and its phonemes after a tab if you like")
        words[fields[0]] = fields[1] if len(fields) > 1 else ""
    return words


def read_sentences(path: Path) -> list[tuple[str, str, str]]:
    """Pairs of sentences, a line each: the right one, a tab, the wrong one; and a tab and its type, if you like.

    Raises:
        SegueError: if it can't be read, or a line is none.
    """
    found = []
    for number, fields in _rows(path):
        if len(fields) not in (2, 3) or not all(fields) or fields[0] == fields[1]:
            raise SegueError(
                f"{path}, line {number}: right sentence, tab, another one that is wrong; and a tab and type"
            )
        found.append((fields[0], fields[1], fields[2] if len(fields) > 2 else ""))
    return found


def of_words(
    words: dict[str, str], voices: Sequence[Synthesiser], limit: int, seed: int, told: Told = lambda done, total: None
) -> Iterator[Made]:
    """Words and pseudo-words.

    Args:
        words: see `read_words`.
        voices: every one speaks every pair; the first one tells how words are pronounced.
        limit: pairs, at most.
        seed: of the draw.
        told: pairs done, and all.
    """
    spoken = {word: given or voices[0].phonemes(word) for word, given in words.items()}
    pairs = pseudo_words({word: phones for word, phones in spoken.items() if phones}, voices[0].known(), limit, seed)
    for number, pair in enumerate(pairs):
        facts: dict[str, Any] = {
            "right_text": pair.word,
            "right_phonemes": pair.right,
            "wrong_phonemes": pair.wrong,
            "right_bigram_nats": pair.right_nats,
            "wrong_bigram_nats": pair.wrong_nats,
        }
        for voice in voices:
            yield from _made(f"{number:05d}", "word", pair.right, pair.wrong, voice, facts)
        told(number + 1, len(pairs))


def of_sentences(
    sentences: Sequence[tuple[str, str, str]],
    voices: Sequence[Synthesiser],
    limit: int,
    told: Told = lambda done, total: None,
) -> Iterator[Made]:
    """Sentences and wrong ones, the first so many; see `of_words`."""
    for number, (right, wrong, kind) in enumerate(sentences[:limit]):
        facts: dict[str, Any] = {"right_text": right, "wrong_text": wrong} | ({"type": kind} if kind else {})
        for voice in voices:
            phonemes = voice.phonemes(right), voice.phonemes(wrong)
            yield from _made(f"{number:05d}", "sentence", *phonemes, voice, facts)
        told(number + 1, min(limit, len(sentences)))


def alike(voice: Synthesiser, right: str, wrong: str) -> tuple[Tensor, Tensor] | None:
    """Two pronunciations spoken equally long and loud; None where they sound the same, or one would have to be
    stretched too far.
    """
    lengths = [len(voice.speak(phonemes, 1.0)) for phonemes in (right, wrong)]
    mean = sum(lengths) / 2
    if not min(lengths) or max(mean / min(lengths), max(lengths) / mean) > MOST_STRETCH:
        return None
    waves = [voice.speak(p, length / mean) for p, length in zip((right, wrong), lengths, strict=True)]
    size = max(map(len, waves))
    waves = [F.pad(wave, (0, size - len(wave))) for wave in waves]
    if min(map(level, waves)) == 0:
        return None
    if waves[0].equal(waves[1]):
        return None
    waves = [wave * (10 ** (LEVEL_DB / 20) / level(wave)) for wave in waves]
    peak = max(1.0, *(float(wave.abs().max()) for wave in waves))
    return waves[0] / peak, waves[1] / peak


def _made(name: str, kind: str, right: str, wrong: str, voice: Synthesiser, facts: dict[str, object]) -> Iterator[Made]:
    waves = alike(voice, right, wrong)
    if waves is not None:
        source = {"licence": voice.licence, "source": voice.told}
        yield Made(name, kind, *waves, voice.voice, name, facts | source)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SegueError(f"{path}: can't be read ({getattr(error, 'strerror', None) or error})") from error
    rows = [(number, [field.strip() for field in line.split("\t")]) for number, line in enumerate(lines, 1)]
    if not any(line.strip() for line in lines):
        raise SegueError(f"{path}: nothing in it")
    return iter([(number, fields) for number, fields in rows if any(fields)])
