"""Seconds, samples and frames: properties that everything which cuts audio relies on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue import units

RATES = st.sampled_from([8000, 16_000, 22_050, 44_100, 48_000])
HOPS = st.integers(1, 5000)


@given(st.integers(0, 10**8), RATES)
def test_samples_come_back_from_seconds(samples, rate):
    assert units.seconds_to_samples(units.samples_to_seconds(samples, rate), rate) == samples


@given(st.integers(1, 10**8), HOPS)
def test_frames_cover_all_samples_and_no_frame_is_idle(samples, hop):
    frames = units.samples_to_frames(samples, hop)
    assert units.frames_to_samples(frames, hop) >= samples > units.frames_to_samples(frames - 1, hop)


@given(st.integers(0, 10**6), HOPS)
def test_whole_frames_come_back_from_samples(frames, hop):
    assert units.samples_to_frames(units.frames_to_samples(frames, hop), hop) == frames


@given(st.integers(1, 10**6), st.sampled_from([12.5, 25.0, 50.0, 75.0]))
def test_frames_come_back_from_seconds(frames, rate):
    assert units.seconds_to_frames(units.frames_to_seconds(frames, rate), rate) == frames


@given(st.floats(0, 1e-3))
def test_there_is_always_a_frame(seconds):
    assert units.seconds_to_frames(seconds, 25.0) == 1


@given(st.sampled_from([12.5, 25.0, 50.0]), st.integers(1, 16))
def test_ratio_of_rates_on_one_clock(slow, ratio):
    assert units.frame_ratio(slow * ratio, slow) == ratio


@pytest.mark.parametrize(("fast", "slow"), [(50.0, 40.0), (25.0, 50.0), (75.0, 50.0)])
def test_rates_that_never_meet_are_refused(fast, slow):
    with pytest.raises(ValueError, match="whole multiple"):
        units.frame_ratio(fast, slow)
