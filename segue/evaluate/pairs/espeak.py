"""eSpeak NG as a synthesiser of pairs: over a hundred languages, robotic, by a command of its own.

It reads spelling by its language's rules, so a word's letters stand for its phones: a pseudo-word is spelt. Waves (N,)
mono at segue.evaluate.pairs.make.RATE.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from segue import audio
from segue.errors import SegueError
from segue.evaluate.pairs.make import RATE

PREFIX = "espeak:"
COMMAND = "espeak-ng"
WORDS_A_MINUTE = 175
_LONGEST_SECONDS = 600.0


class Espeak:
    """The command espeak-ng.

    Args:
        language: as `espeak-ng --voices` names it, such as `fr` or `en-gb`.

    Raises:
        SegueError: if it isn't installed, or knows no such language.
    """

    def __init__(self, language: str) -> None:
        if shutil.which(COMMAND) is None:
            raise SegueError(
                f"--voice {PREFIX}{language}: {COMMAND} isn't installed; apt-get install espeak-ng, or its like"
            )
        self.voice = PREFIX + language
        self._language = language
        self.told = " ".join(_run("--version").split("Data at")[0].split()) or COMMAND
        self.licence = "synthesised by eSpeak NG (GPL-3.0 program)"
        if not language or language.startswith("-"):
            raise SegueError(f"--voice {self.voice}: name a language, as espeak-ng --voices does")
        self.phonemes("a")

    def phonemes(self, text: str) -> str:
        """The text itself, for it is spelling that is spoken.

        Raises:
            SegueError: if the language is unknown.
        """
        _run("-v", self._language, "-q", "--", text)
        return " ".join(text.split())

    def known(self) -> list[str]:
        """None: it has rules, no list of words."""
        return []

    def speak(self, phonemes: str, speed: float) -> Tensor:
        """(N,) at 16 kHz, the same every time."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "said.wav"
            _run("-v", self._language, "-s", str(round(WORDS_A_MINUTE * speed)), "-w", str(path), "--", phonemes)
            return torch.from_numpy(audio.read_crop(path, 0.0, _LONGEST_SECONDS, RATE))


def _run(*arguments: str) -> str:
    """Its output.

    Raises:
        SegueError: with what it says, if it fails.
    """
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SegueError(f"{COMMAND}: {' '.join((done.stderr or done.stdout).split()) or 'failed'}")
    return done.stdout
