"""Phones of speech with their times, as labels for measuring: never for training.

With a transcript: pocketsphinx aligns the dictionary's phones to it. Without: `hama` names the phones, pocketsphinx
finds where each begins and ends. On the five LibriVox clips with transcripts that come with pocketsphinx, 87 % of
the speech frames of the second way are those of the first (89 % where pocketsphinx recognises words by itself, at a
quarter of the speed; 61 % by its phone loop; `hama`'s own spans say 25 %, for they are peaks, not stretches).

wave (N,) mono at 16 kHz -> spans in seconds, labelled by the 39 phones of ARPAbet; silence and noise have none.
Needs pocketsphinx and hama (extra "eval"), whose models are inside.
"""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from segue.errors import SegueError

SAMPLE_RATE = 16_000
FRAME_SECONDS = 0.01
PACKAGES = ("pocketsphinx", "hama")
_NO_PHONE = re.compile(r"SIL|\+.*\+|<.*>")
_ARPABET = {
    **{"ɑ": "AA", "ɒ": "AA", "a": "AA", "æ": "AE", "ʌ": "AH", "ə": "AH", "ɐ": "AH", "ɔ": "AO", "o": "OW", "oʊ": "OW"},
    **{"aʊ": "AW", "aɪ": "AY", "ɛ": "EH", "e": "EY", "eɪ": "EY", "ɝ": "ER", "ɚ": "ER", "ɜ": "ER", "ɪ": "IH", "i": "IY"},
    **{"ɔɪ": "OY", "ʊ": "UH", "u": "UW", "b": "B", "t͡ʃ": "CH", "d": "D", "ɾ": "D", "ð": "DH", "f": "F", "ɡ": "G"},
    **{"g": "G", "h": "HH", "d͡ʒ": "JH", "k": "K", "l": "L", "ɫ": "L", "m": "M", "n": "N", "ŋ": "NG", "p": "P"},
    **{"ɹ": "R", "r": "R", "s": "S", "ʃ": "SH", "t": "T", "θ": "TH", "v": "V", "w": "W", "j": "Y", "z": "Z", "ʒ": "ZH"},
}


@dataclass(frozen=True)
class Span:
    """A stretch of sound and what it is.

    Attributes:
        label: its kind.
        start_seconds: where it begins.
        end_seconds: where it ends.
    """

    label: str
    start_seconds: float
    end_seconds: float


class PhoneAligner:
    """Finds the phones of English speech.

    Raises:
        SegueError: if pocketsphinx or hama is not installed.
    """

    def __init__(self) -> None:
        try:
            import hama
            from pocketsphinx import Decoder
        except ImportError as error:
            raise SegueError(f'phones need {" and ".join(PACKAGES)} ({error}); pip install "segue[eval]"') from error
        self._decoder: Any = Decoder(lm=None, loglevel="FATAL", bestpath=False, beam=1e-100, wbeam=1e-80)
        self._names: Any = hama.ASRModel()
        self._letters: Any = hama.G2PModel()

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages behind it."""
        return {name: importlib.metadata.version(name) for name in PACKAGES}

    def __call__(self, wave: Tensor, transcript: str | None = None) -> list[Span]:
        """The phones of a recording.

        Args:
            wave: (N,) at 16 kHz.
            transcript: what is said, if that is known.

        Raises:
            SegueError: if nothing could be aligned.
        """
        words = self._words(wave) if transcript is None else self._spoken(transcript)
        if not words:
            raise SegueError("no phones were found")
        sound = (wave.clamp(-1, 1) * 32_767).numpy().astype(np.int16).tobytes()
        try:
            self._decoder.set_align_text(" ".join(words))
            self._decode(sound)
            self._decoder.set_alignment()
            self._decode(sound)
            found = [phone for word in self._decoder.get_alignment() for phone in word]
        except (RuntimeError, TypeError) as error:  # TypeError: no alignment was reached, which is None
            raise SegueError(f"phones could not be aligned ({error})") from error
        return [
            Span(phone.name, phone.start * FRAME_SECONDS, (phone.start + phone.duration) * FRAME_SECONDS)
            for phone in found
            if not _NO_PHONE.fullmatch(phone.name)
        ]

    def _decode(self, sound: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(sound, full_utt=True)
        self._decoder.end_utt()

    def _words(self, wave: Tensor) -> list[str]:
        """What hama hears, as words of the dictionary made up for it."""
        heard = self._names.transcribe_waveform(wave.numpy(), SAMPLE_RATE).word_phoneme_text
        return [self._known(word.split()) for word in heard.split("|") if arpabet(word.split())]

    def _spoken(self, transcript: str) -> list[str]:
        """A transcript's words; those that the dictionary lacks are read by hama."""
        words = re.findall(r"[a-z']+", transcript.lower())
        given = []
        for word in words:
            if self._decoder.lookup_word(word) is not None:
                given.append(word)
                continue
            read = [letter.phoneme for letter in self._letters.predict(word).alignments]
            if arpabet(read):
                given.append(self._known(read))
        return given

    def _known(self, sounds: list[str]) -> str:
        """A word of the dictionary that is pronounced like this."""
        phones = arpabet(sounds)
        name = "_".join(phones)
        if self._decoder.lookup_word(name) is None:
            self._decoder.add_word(name, " ".join(phones), True)
        return name


def arpabet(sounds: list[str]) -> list[str]:
    """IPA as ARPAbet; signs that are no English phone are left out."""
    return [_ARPABET[sound] for sound in sounds if sound in _ARPABET]
