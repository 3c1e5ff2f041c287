"""Stand-ins whose tokens tell which samples they were made from, for a sound whose sample n has the value n."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import soundfile
import torch

from segue.data.aligned import Tokenizers
from segue.errors import SegueError


class SampleClock:
    sample_rate, fingerprint = 16_000, "clock-semantic"
    hop_length, frame_rate, vocab_size = 640, 25.0, 5000

    def encode(self, wave, lengths=None):
        return (wave[:, :: self.hop_length] * 2**15).round().long() // 640


class CodeClock:
    sample_rate, fingerprint, codes_fingerprint = 16_000, "clock-codec", "clock-codec"
    hop_length, frame_rate, num_codebooks, codebook_size = 320, 50.0, 2, 5000

    def encode(self, wave, lengths=None):
        time = (wave[:, :: self.hop_length] * 2**15).round().long() // 320
        return torch.stack([time, time], dim=1)

    def codebooks(self):
        return None


class Deadly(CodeClock):
    """Kills its process on sound of `samples`, while `flag` is there."""

    def __init__(self, samples: int, flag: Path) -> None:
        self.samples, self.flag = samples, flag

    def encode(self, wave, lengths=None):
        if wave.shape[1] == self.samples and self.flag.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(wave, lengths)


def ramp(path: Path, seconds: float) -> Path:
    """Sample n has the value n: a sound that tells its own time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.arange(1, round(16_000 * seconds) + 1, dtype=np.int16), 16_000)
    return path


def clocks() -> Tokenizers:
    return Tokenizers(SampleClock(), CodeClock())


def others() -> Tokenizers:
    tokenizers = clocks()
    tokenizers.codec.codes_fingerprint = "another"
    return tokenizers


def deadly(samples: int, flag: Path) -> Tokenizers:
    return Tokenizers(SampleClock(), Deadly(samples, flag))


def absent() -> Tokenizers:
    raise SegueError("no weights here")
