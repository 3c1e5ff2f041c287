"""What one recording is like: each fault is seen where it is made, and nowhere else."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import tiny

from segue.doctor import fingerprint
from segue.doctor.corpus import CLIPPED_FILE, OFFSET_FILE
from segue.doctor.sound import facts_of


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * tiny.RATE)).astype(np.float32)


def sixteen_bit(wave: np.ndarray) -> np.ndarray:
    return (np.round(wave * 32768) / 32768).astype(np.float32)


def facts(wave: np.ndarray):
    return facts_of(wave[:, None], tiny.RATE)


def test_sound_as_it_should_be_has_no_fault():
    found = facts(sixteen_bit(tiny.sound(4.0)))
    assert found.clipped == 0.0 and found.offset < OFFSET_FILE / 5 and found.silent < 0.3
    assert found.bandwidth_hz == 8000.0 and -40 < found.level_db < -10


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_clipping_is_seen_even_after_it_was_turned_down(gain):
    loud = 8 * tiny.sound(4.0)
    assert facts(gain * np.clip(loud, -1, 1)).clipped > 10 * CLIPPED_FILE
    assert facts(loud / np.abs(loud).max()).clipped == 0.0


def test_soft_sound_in_few_steps_is_not_clipped():
    assert facts(np.round(noise(2.0) * 20).astype(np.float32) / 127).clipped == 0.0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.75])
def test_silence_is_a_share_of_the_time(share):
    wave = noise(4.0)
    wave[: round(share * len(wave))] = 0.0
    assert facts(wave).silent == pytest.approx(share, abs=0.01)


def test_an_offset_is_told_beside_the_level():
    assert facts(noise(4.0) + 0.05).offset == pytest.approx(0.45, abs=0.05)


@pytest.mark.parametrize("edge", [3500.0, 5000.0, 6500.0])
def test_the_edge_of_a_filter_is_found(edge):
    spectrum = np.fft.rfft(noise(4.0))
    spectrum[np.fft.rfftfreq(4 * tiny.RATE, 1 / tiny.RATE) > edge] = 0
    assert facts(sixteen_bit(np.fft.irfft(spectrum))).bandwidth_hz == pytest.approx(edge, abs=300)


def test_an_instrument_that_fades_towards_the_top_has_no_edge():
    frequencies = np.fft.rfftfreq(4 * tiny.RATE, 1 / tiny.RATE)
    spectrum = np.fft.rfft(noise(4.0)) * 10 ** (-frequencies / 8000 * 60 / 20)
    assert facts(sixteen_bit(np.fft.irfft(spectrum))).bandwidth_hz == 8000.0


def lively(seed: int, seconds: float = 8.0) -> np.ndarray:
    """Noise whose spectrum changes every 0.2 s, so that all bands have something to tell."""
    draw, size = np.random.default_rng(seed), round(0.2 * tiny.RATE)
    pieces = []
    for _ in range(round(seconds / 0.2)):
        spectrum = np.fft.rfft(draw.standard_normal(size))
        gains = np.interp(np.arange(len(spectrum)), np.linspace(0, len(spectrum), 60), 10 ** draw.uniform(-1, 1, 60))
        pieces.append(np.fft.irfft(spectrum * gains) * np.hanning(size))
    return (0.05 * np.concatenate(pieces)).astype(np.float32)


def coded(wave: np.ndarray, kind: str) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, wave, tiny.RATE, format=kind)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


@pytest.mark.parametrize("change", ["quieter", "MP3", "OGG", "cut"])
def test_the_same_sound_is_known_again_and_other_sound_is_not(change):
    sounds = [lively(seed) for seed in range(6)]
    again = sounds[2]
    again = 0.3 * again if change == "quieter" else again[12_345:] if change == "cut" else coded(again, change)
    pairs = fingerprint.near_duplicates([fingerprint.words_of(wave.astype(np.float32)) for wave in [*sounds, again]])
    assert [(one, other) for one, other, _ in pairs] == [(2, 6)]


def test_what_is_too_short_or_silent_has_no_words():
    assert len(fingerprint.words_of(noise(0.3))) == 0
    assert fingerprint.near_duplicates([fingerprint.words_of(np.zeros(80_000, np.float32))] * 2) == []
    assert fingerprint.near_duplicates([]) == []
