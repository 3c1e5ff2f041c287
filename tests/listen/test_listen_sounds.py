"""Loudness as the standard has it; clips whose level and joint tell nothing."""

from __future__ import annotations

import math

import pytest
import tiny
import torch

from segue import audio
from segue.listen.loudness import loudness
from segue.listen.sounds import LOUDNESS, MOST_GAIN_DB, beeps, ears, joined, matched, noise

RATE = tiny.RATE


def tone(seconds: float, hertz: float = 997.0, level: float = 1.0, rate: int = RATE) -> torch.Tensor:
    return level * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_loudness_is_the_standards(rate):
    """ITU-R BS.1770-4: a full-scale sine of 997 Hz in one front channel has -3.01 LKFS; EBU Tech 3341 for the gates."""
    assert loudness(tone(2, rate=rate), rate) == pytest.approx(-3.01, abs=0.05)
    quieter = loudness(tone(2, level=0.1, rate=rate), rate)
    assert quieter == pytest.approx(-23.01, abs=0.05)
    gated = torch.cat([tone(10, level=0.1, rate=rate), tone(10, level=0.1 * 10 ** (-13 / 20), rate=rate)])
    assert loudness(gated, rate) == pytest.approx(quieter, abs=0.15), "what is 10 LU quieter isn't counted"
    assert loudness(tone(2, 60.0, rate=rate), rate) < -4 and loudness(tone(2, 4000.0, rate=rate), rate) > 0


def test_silence_has_no_loudness():
    assert loudness(torch.zeros(RATE), RATE) == loudness(torch.zeros(0), RATE) == -math.inf
    assert loudness(tone(1, level=1e-5), RATE) == -math.inf
    assert loudness(tone(0.1), RATE) == pytest.approx(-3.0, abs=0.6), "less than a block is one"


def test_clips_of_a_recording_are_equally_loud_whatever_follows():
    prompt, truth, other = (torch.from_numpy(tiny.sound(2.0, seed)) for seed in range(3))
    found, room = matched(
        prompt, truth, {"real": truth, "quiet": 0.2 * other, "loud": 3 * other, "short": other[:9000]}, RATE
    )
    cut = prompt.shape[0]
    levels = {name: loudness(clip[cut:], RATE) for name, (clip, _) in found.items()}
    assert max(levels.values()) - min(levels.values()) < 0.3
    assert all(clip.shape == found["real"][0].shape and clip.abs().max() < 1 for clip, _ in found.values())
    assert all(clip[:cut].equal(found["real"][0][:cut]) for clip, _ in found.values()), "the same prompt to the bit"
    assert found["real"][1] == 0 and found["quiet"][1] - found["loud"][1] == pytest.approx(23.5, abs=0.1)
    assert loudness(found["real"][0], RATE) == pytest.approx(LOUDNESS, abs=0.01) and room == 1
    click = truth.clone()
    click[100] = 30.0
    clicked, less = matched(prompt, truth, {"real": truth, "click": click}, RATE)
    assert clicked["real"][0].equal(found["real"][0]) and 0 < less < 1
    assert float(less * clicked["click"][0].abs().max()) == pytest.approx(0.98, abs=1e-4)


def test_silence_is_left_silent_and_whispers_are_not_blown_up():
    prompt, truth = (torch.from_numpy(tiny.sound(1.0, seed)) for seed in range(2))
    found, _ = matched(prompt, truth, {"nothing": torch.zeros(RATE), "whisper": 0.02 * truth}, RATE)
    assert found["nothing"][1] == 0 and found["nothing"][0][RATE:].abs().max() == 0
    assert found["whisper"][1] == MOST_GAIN_DB
    silent, _ = matched(torch.zeros(100), torch.zeros(100), {"real": torch.zeros(100)}, RATE)
    assert silent["real"][0].equal(torch.zeros(200))


def test_the_joint_has_no_click():
    whole = joined(torch.ones(800), -torch.ones(800), RATE)
    assert len(whole) == 1600 and whole[799].abs() < 0.02 and whole[800].abs() < 0.02
    assert whole.diff().abs().max() < 0.05
    assert joined(torch.ones(0), torch.ones(5), RATE).equal(torch.ones(5))


def test_beeps_can_be_counted():
    for count in (1, 2):
        loud = beeps(count, 2 * RATE, RATE).abs() > 0.01
        runs = torch.nn.functional.max_pool1d(loud[None].float(), 101, 1, 50)[0].diff().clamp(min=0).sum()
        assert int(runs) == count
        assert beeps(count, 3200, RATE).shape == (3200,)


def test_the_sound_check_is_heard_on_one_side_after_the_other(tmp_path):
    left, right = ears(True, RATE)
    half = left.shape[0] // 2
    assert left[:half].abs().max() > 0.05 and not left[half:].any() and not right[:half].any()
    assert ears(False, RATE).equal(torch.stack([right, left]))
    audio.write(tmp_path / "ears.wav", torch.stack([left, right]), RATE)
    samples, rate = audio.read_as_is(tmp_path / "ears.wav", 0.0, 9.0)
    assert samples.shape == (2 * half, 2) and rate == RATE
    assert torch.from_numpy(samples[:, 0]).sub(left).abs().max() < 1e-4


def test_noise_is_of_its_generator():
    assert noise(50, tiny.rng(1)).equal(noise(50, tiny.rng(1))) and not noise(50, tiny.rng(1)).equal(
        noise(50, tiny.rng(2))
    )
