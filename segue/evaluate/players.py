"""Sounds for the report: a WAV file and the picture of its spectrogram, written beside the report.

wave (N,) -> spectrogram (bins, frames) in dB re a full-scale sine -> PNG with a palette, made without any package.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import torch
from torch import Tensor

from segue import audio
from segue.artifact import written_file
from segue.evaluate.section import Player
from segue.evaluate.suite import Context

WINDOW_SECONDS, HOP_SECONDS = 0.032, 0.008
RANGE_DB = 80
TOP_DB = -20.0
BINS, FRAMES, SHADES = 128, 480, 32
"""Of a picture in the report."""

COLOURS = ("000004", "1f0c48", "550f6d", "88226a", "ba3655", "e35933", "f98e09", "f9cb35", "fcffa4")


def player(context: Context, name: str, title: str, row: str, wave: Tensor) -> Player:
    """Write a sound and its spectrogram.

    Args:
        context: of the suite.
        name: of the files, unlike any other's in the report.
        title: what it is.
        row: what it stands beside.
        wave: (N,) at the bundle's sample rate.

    Raises:
        SegueError: if a file can't be written.
    """
    rate = context.bundle.sample_rate
    sound, image = f"sounds/{name}.wav", f"pictures/{name}.png"
    (context.out / "sounds").mkdir(parents=True, exist_ok=True)
    audio.write(context.out / sound, wave, rate)
    with written_file(context.out / image) as beside:
        beside.write_bytes(small_picture(wave, rate))
    return Player(title, row, sound, image)


def spectrogram(wave: Tensor, rate: int) -> Tensor:
    """Wave (N,) -> level in dB re a full-scale sine (bins, frames), lowest frequency first."""
    size, hop = round(WINDOW_SECONDS * rate), round(HOP_SECONDS * rate)
    window = torch.hann_window(size)
    padded = torch.nn.functional.pad(wave, (size // 2, size // 2))
    magnitude = torch.stft(padded, size, hop, window=window, center=False, return_complex=True).abs()
    return 20 * (magnitude * 2 / window.sum()).clamp(min=1e-7).log10()


def palette() -> np.ndarray:
    """256 colours from silence to the top of the scale: (256, 3) uint8."""
    known = np.array([list(bytes.fromhex(colour)) for colour in COLOURS], dtype=float)
    at = np.linspace(0, len(known) - 1, 256)
    return np.stack([np.interp(at, range(len(known)), known[:, k]) for k in range(3)], axis=1).round().astype(np.uint8)


def png(indices: np.ndarray) -> bytes:
    """Colour numbers (rows, columns) uint8 as a PNG file with the palette in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows, columns = indices.shape
    lines = np.pad(indices, ((0, 0), (1, 0))).tobytes()  # each line begins with 0: no filter
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    parts = (b"IHDR", header), (b"PLTE", palette().tobytes()), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)


def picture(levels: Tensor, top_db: float) -> bytes:
    """A spectrogram (bins, frames) as PNG, high frequencies up."""
    share = ((levels - top_db) / RANGE_DB + 1).clamp(0, 1)
    return png((share.flip(0) * 255).round().to(torch.uint8).numpy())


def small_picture(wave: Tensor, rate: int, most_frames: int = FRAMES) -> bytes:
    """The spectrogram of a wave (N,) as PNG of some 30 kB, no larger than it is shown, on the report's one scale."""
    levels = spectrogram(wave, rate)
    bins, frames = min(BINS, levels.shape[0]), min(most_frames, levels.shape[1])
    pooled = torch.nn.functional.adaptive_avg_pool2d(levels[None, None], (bins, frames))[0, 0]
    step = RANGE_DB / SHADES
    return picture((pooled / step).round() * step, TOP_DB)
