"""Seconds, samples and frames, and the only arithmetic between them.

Rates are in Hz; a hop is in samples a frame. Everything that cuts or counts audio comes through here, so
that semantic tokens and codec codes of a clip always start at the same sample.
"""

from __future__ import annotations

import math


def seconds_to_samples(seconds: float, sample_rate: int) -> int:
    """Nearest whole number of samples."""
    return round(seconds * sample_rate)


def samples_to_seconds(samples: int, sample_rate: int) -> float:
    """Duration of `samples` in seconds."""
    return samples / sample_rate


def seconds_to_frames(seconds: float, frame_rate: float) -> int:
    """Nearest whole number of frames, at least one."""
    return max(1, round(seconds * frame_rate))


def frames_to_seconds(frames: int, frame_rate: float) -> float:
    """Duration of `frames` in seconds."""
    return frames / frame_rate


def samples_to_frames(samples: int, hop_length: int) -> int:
    """Frames that cover `samples`: the last frame may be partly padding."""
    return math.ceil(samples / hop_length)


def frames_to_samples(frames: int, hop_length: int) -> int:
    """Samples that `frames` stand for."""
    return frames * hop_length


def frame_ratio(fast_rate: float, slow_rate: float) -> int:
    """How many frames of the faster stream fall on one of the slower.

    Raises:
        ValueError: if one rate is no whole multiple of the other; such streams can't be cut at the same instant.
    """
    ratio = fast_rate / slow_rate
    if ratio < 1 or abs(ratio - round(ratio)) > 1e-9:
        raise ValueError(f"frame rates {fast_rate} Hz and {slow_rate} Hz: the first must be a whole multiple")
    return round(ratio)
