"""What raters hear: both forms fair, nobody hears a recording twice, names tell nothing."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import SegueError
from segue.listen.make import Options
from segue.listen.plan import FORMS, KINDS, checks, form_of, plan

PLANS = st.builds(
    lambda kind, half, seed: (kind, 2 * half, plan(kind, 2 * half, random.Random(seed))),
    st.sampled_from(KINDS),
    st.integers(1, 12),
    st.integers(0, 999),
)


@settings(deadline=None, max_examples=30)
@given(PLANS)
def test_each_form_is_balanced_and_uses_a_recording_once(case):
    kind, count, trials = case
    for form in range(FORMS):
        own = [trial for trial in trials if trial.form == form]
        tested = [trial for trial in own if trial.part == "test"]
        others = [trial for trial in own if trial.part == "check"]
        assert sorted(trial.recording for trial in tested) == list(range(count))
        assert sorted(trial.recording for trial in others) == list(range(count, count + checks(kind)))
        leads = Counter(trial.sounds[0].what for trial in tested)
        assert set(leads.values()) == {count // 2} and len(leads) == 2
        assert len(own) == count + checks(kind) + 1
        right = {trial.right for trial in others}
        assert right == {1, 2}, "whoever always says the same fails"


@settings(deadline=None, max_examples=30)
@given(PLANS)
def test_what_one_form_hears_the_other_hears_turned(case):
    kind, count, trials = case
    for number in range(count):
        one, two = (trial for trial in trials if trial.recording == number and trial.part == "test")
        if kind == "real":
            assert {one.sounds[0].what, two.sounds[0].what} == {"real", "first"}
            assert (one.right == 1) == (one.sounds[0].what == "real")
        else:
            assert [heard.what for heard in one.sounds] == [heard.what for heard in two.sounds][::-1]


@settings(deadline=None, max_examples=30)
@given(PLANS)
def test_the_repeat_is_a_trial_that_was_there_under_other_names(case):
    _, _, trials = case
    by_id = {trial.id: trial for trial in trials}
    repeats = [trial for trial in trials if trial.part == "repeat"]
    assert [trial.form for trial in sorted(repeats, key=lambda trial: trial.form)] == [0, 1]
    for trial in repeats:
        before = by_id[trial.of]
        assert (before.part, before.form, before.recording) == ("test", trial.form, trial.recording)
        assert [heard.what for heard in before.sounds] == [heard.what for heard in trial.sounds]
    names = [trial.id for trial in trials] + [heard.id for trial in trials for heard in trial.sounds]
    assert len(names) == len(set(names)) and all(len(name) == 16 for name in names)
    assert [trial.id for trial in trials] == sorted(trial.id for trial in trials)


def test_the_form_is_the_sessions_last_bit():
    assert [form_of("0" * 31 + digit) for digit in "0123456789abcdef"] == [0, 1] * 8


@pytest.mark.parametrize("trials", [0, 1, 7, -2])
def test_odd_numbers_are_refused(trials):
    with pytest.raises(SegueError, match=f"--trials {trials}: an even number"):
        Options(trials=trials)


@pytest.mark.parametrize("changes", [{"seconds": 0.0}, {"prompt_seconds": float("nan")}, {"seconds": float("inf")}])
def test_lengths_that_make_no_sound_are_refused(changes):
    with pytest.raises(SegueError, match="seconds"):
        Options(**changes)
