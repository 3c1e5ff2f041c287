"""Pseudo-words: words of a list with a phone or two exchanged for others that stand between the same neighbours.

A pronunciation is a string of phones, a letter each (with a length mark, if it has one), and a stress mark before the
phone that bears it. A pseudo-word keeps the word's number of phones, its vowels' and consonants' places and its stress;
every three phones in a row of it come in the list, it is never the pronunciation of a known word, and over the whole
list pseudo-words are as likely as their words by bigrams of phones.

Source: matching after Wuggy (Keuleers and Brysbaert 2010) as in sWUGGY (arXiv 2011.11588, section 3.2).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

VOWELS = frozenset("AIOQWYSaeiouyæøœɐɑɒɔəɚɛɜɝɞɤɨɪɯɵʉʊʌᵊᵻ")
STRESSES = "ˈˌ"
_ATTACHED = "ːˑ̃ʰʲ"
_ALIKE = str.maketrans({"ᵻ": "ɪ", "ɐ": "ə", "ʌ": "ə", "ᵊ": "ə", "ɚ": "ə", "ɾ": "t", "T": "t", "ɝ": "ɜ"})
"""Phones that are hardly told apart: exchanging one for another makes no other word."""
_EDGE = "#"
_SMOOTHING = 0.1
_NEAREST = 5
"""Candidates nearest in likelihood, of which the one that keeps the whole list in balance is taken."""
FEWEST_PHONES = 3


@dataclass(frozen=True)
class PseudoWord:
    """A word and what was made of it.

    Attributes:
        word: as it is written.
        right: its pronunciation.
        wrong: the pseudo-word's.
        right_nats: minus the logarithm of the word's likelihood by bigrams of phones.
        wrong_nats: the pseudo-word's.
    """

    word: str
    right: str
    wrong: str
    right_nats: float
    wrong_nats: float


def phones_of(pronunciation: str) -> list[str]:
    """The phones of a pronunciation, each with its stress mark, if it has one, and what is attached to it."""
    phones: list[str] = []
    stress = ""
    for letter in pronunciation:
        if letter in STRESSES:
            stress = letter
        elif letter in _ATTACHED and phones:
            phones[-1] += letter
        elif not letter.isspace():
            phones.append(stress + letter)
            stress = ""
    return phones


def plain(phones: Sequence[str]) -> tuple[str, ...]:
    """Phones without stress."""
    return tuple(phone.strip(STRESSES) for phone in phones)


def heard(pronunciation: str) -> str:
    """What two words that sound the same have in common."""
    return "".join(plain(phones_of(pronunciation))).translate(_ALIKE)


class Phonotactics:
    """Which phones stand beside each other in a list of words, and how often.

    Args:
        pronunciations: of the list.
    """

    def __init__(self, pronunciations: Collection[str]) -> None:
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._first: Counter[str] = Counter()
        self._between: dict[tuple[str, str], set[str]] = {}
        for pronunciation in pronunciations:
            row = (_EDGE, *plain(phones_of(pronunciation)), _EDGE)
            for before, after in pairwise(row):
                self._pairs[before, after] += 1
                self._first[before] += 1
            for before, phone, after in zip(row, row[1:], row[2:], strict=False):
                self._between.setdefault((before, after), set()).add(phone)
        self._size = len(self._first)

    def nats(self, phones: Sequence[str]) -> float:
        """Minus the logarithm of a word's likelihood by bigrams."""
        row = (_EDGE, *plain(phones), _EDGE)
        return -sum(
            math.log((self._pairs[pair] + _SMOOTHING) / (self._first[pair[0]] + _SMOOTHING * self._size))
            for pair in pairwise(row)
        )

    def changed(self, phones: Sequence[str]) -> Iterator[list[str]]:
        """A word with one phone exchanged for another of its class that stands between the same two in the list."""
        row = (_EDGE, *plain(phones), _EDGE)
        for place, phone in enumerate(phones):
            own = row[place + 1]
            stress = phone[: len(phone) - len(own)]
            for other in sorted(self._between.get((row[place], row[place + 2]), ())):
                if other != own and _is_vowel(other) == _is_vowel(own):
                    yield [*phones[:place], stress + other, *phones[place + 1 :]]

    def seen(self, phones: Sequence[str]) -> bool:
        """Whether every three phones in a row, edges counted, come in the list."""
        row = (_EDGE, *plain(phones), _EDGE)
        return all(b in self._between.get((a, c), ()) for a, b, c in zip(row, row[1:], row[2:], strict=False))


def pseudo_words(words: dict[str, str], known: Collection[str], limit: int, seed: int) -> list[PseudoWord]:
    """Words of a list with a pseudo-word each.

    Words of fewer than three phones, and such as nothing can be made of, are passed over.

    Args:
        words: word -> pronunciation; all of them tell which phones go together.
        known: pronunciations of more words that a pseudo-word must not be.
        limit: pseudo-words, at most.
        seed: of the draw of words and of ties.
    """
    sounds = Phonotactics(words.values())
    taken = {heard(pronunciation) for pronunciation in [*words.values(), *known]}
    rng, balance = random.Random(seed), 0.0
    found: list[PseudoWord] = []
    for word in rng.sample(sorted(words), len(words)):
        if len(found) >= limit:
            break
        phones = phones_of(words[word])
        candidates = _candidates(phones, sounds, taken) if len(phones) >= FEWEST_PHONES else []
        if not candidates:
            continue
        own = sounds.nats(phones)
        rng.shuffle(candidates)
        nearest = sorted(candidates, key=lambda one: abs(sounds.nats(one) - own))[:_NEAREST]
        chosen = min(nearest, key=lambda one: abs(balance + sounds.nats(one) - own))
        balance += sounds.nats(chosen) - own
        wrong = "".join(chosen)
        taken.add(heard(wrong))
        found.append(PseudoWord(word, "".join(phones), wrong, own, sounds.nats(chosen)))
    return found


def _candidates(phones: list[str], sounds: Phonotactics, taken: Collection[str]) -> list[list[str]]:
    """Pseudo-words with one phone changed; with two, where there are none."""
    once = list(sounds.changed(phones))
    for rows in (once, [twice for row in once for twice in sounds.changed(row)]):
        made = [row for row in rows if sounds.seen(row) and heard("".join(row)) not in taken]
        if made:
            return made
    return []


def _is_vowel(phone: str) -> bool:
    return phone[0] in VOWELS
