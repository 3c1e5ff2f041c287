"""Several tries: which is kept, that it is one of them to the byte, and that nothing else changes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.bundle import load
from segue.errors import SegueError
from segue.generate.manner import Manner
from segue.generate.options import settings_of
from segue.generate.tries import TRIES_APART, most_fitting, pitch_classes

RATE = 16_000
PROMPT = tiny.sound(1.5)
A, C, FIS = 440.0, 261.63, 370.0


def tones(*hertz: float, seconds: float = 1.0, level: float = 0.1) -> torch.Tensor:
    time = torch.arange(int(seconds * RATE)) / RATE
    return level * torch.stack([torch.sin(2 * math.pi * one * time) for one in hertz]).mean(0)


NOTHING = torch.zeros(0)


def test_pitch_classes_are_counted_from_a():
    assert pitch_classes(tones(A), RATE).argmax() == 0 and pitch_classes(tones(A), RATE)[0] > 0.8
    assert pitch_classes(tones(2 * A), RATE).argmax() == 0
    assert pitch_classes(tones(C), RATE).argmax() == 3
    assert pitch_classes(tones(FIS), RATE).argmax() == 9
    assert pitch_classes(tones(C, seconds=0.05), RATE).sum() == pytest.approx(1.0)
    assert not pitch_classes(torch.zeros(RATE), RATE).any() and not pitch_classes(NOTHING, RATE).any()


@pytest.mark.parametrize("rate", [8000, 24_000, 44_100])
def test_pitch_classes_do_not_depend_on_the_rate(rate):
    time = torch.arange(rate) / rate
    assert pitch_classes(torch.sin(2 * math.pi * C * time), rate).argmax() == 3


def test_what_strays_in_level_is_left():
    usual = [tones(A, level=level) for level in (0.1, 0.12, 0.09)]
    assert most_fitting([torch.zeros(RATE), *usual], tones(A), RATE) != 0
    assert most_fitting([*usual, tones(A, level=1.0)], tones(A), RATE) != 3
    swelling = tones(A, level=0.2) * torch.linspace(0, 1, RATE)
    assert most_fitting([swelling, *usual], tones(A), RATE) != 0


def test_of_two_that_are_as_typical_the_louder_one_is_kept():
    assert most_fitting([tones(A, level=0.1), tones(A, level=0.2)], tones(A), RATE) == 1
    assert most_fitting([tones(A, level=0.2), tones(A, level=0.1)], tones(A), RATE) == 0


def test_the_key_of_the_prompt_is_kept():
    tries = [tones(FIS), tones(FIS, 2 * FIS), tones(C), tones(FIS)]
    assert most_fitting(tries, tones(C, 2 * C), RATE) == 2
    assert most_fitting(tries, NOTHING, RATE) != 2, "without a prompt, the key of most"


def test_too_short_a_try_is_kept_only_if_all_are():
    assert most_fitting([NOTHING, torch.zeros(100), tones(A)], tones(A), RATE) == 2
    assert most_fitting([NOTHING, torch.zeros(100)], tones(A), RATE) == 0
    assert most_fitting([tones(A)] * 3, tones(A), RATE) == 0
    assert most_fitting([NOTHING, tones(A), tones(C)], NOTHING, RATE) in (1, 2)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(5)))
def test_the_same_try_is_kept_in_any_order(order):
    tries = [tones(C * 2 ** (step / 7), level=0.05 * (step + 1)) for step in range(5)]
    first = most_fitting(tries, tones(C), RATE)
    assert order[most_fitting([tries[index] for index in order], tones(C), RATE)] == first


def test_what_is_kept_is_one_of_the_tries_to_the_byte(bundle):
    kept = bundle.continue_audio(PROMPT, RATE, 0.8, seed=3, tries=4)
    each = [bundle.continue_audio(PROMPT, RATE, 0.8, seed=3 + number * TRIES_APART) for number in range(4)]
    cut = len(PROMPT)
    assert len({one.wave.numpy().tobytes() for one in each}) == 4
    best = most_fitting([one.wave[0, cut:] for one in each], torch.from_numpy(PROMPT), RATE)
    assert torch.equal(kept.wave, each[best].wave) and torch.equal(kept.tokens.codes, each[best].tokens.codes)
    assert torch.equal(kept.tokens.semantic, each[best].tokens.semantic) and kept.seeds == (3,)


def test_a_row_does_not_depend_on_its_neighbours(bundle):
    together = bundle.continue_audio(PROMPT, RATE, 0.4, seed=5, num=2, tries=3)
    for row in range(2):
        alone = bundle.continue_audio(PROMPT, RATE, 0.4, seed=5 + row, tries=3)
        assert torch.equal(together.wave[row], alone.wave[0])


def test_the_stream_is_the_whole(bundle):
    generation = bundle.continuation(PROMPT, RATE, 1.0, tries=2)
    chunks = [chunk.wave for chunk in generation.stream()]
    assert len(chunks) > 2 and torch.equal(torch.cat(chunks, dim=1), generation.run().wave)


def takes(make, tries: int = 3) -> list[torch.Tensor]:
    """What each try is by itself, (n,)."""
    return [make(seed=number * TRIES_APART).wave[0] for number in range(tries)]


def test_out_of_nothing_and_of_a_recordings_content_too(bundle):
    for make in (
        lambda **how: bundle.generation(0.5, **how).run(),
        lambda **how: bundle.acoustic_generation(PROMPT, RATE, 0.4, **how).run(),
    ):
        each = takes(make)
        assert torch.equal(make(tries=3).wave[0], each[most_fitting(each, NOTHING, RATE)])


@pytest.mark.parametrize("how", [{"system": "semantic-only"}, {"stop_at_end": True, "seed": 4}])
def test_every_way_to_go_on_takes_tries(bundle, how):
    made = bundle.continue_audio(PROMPT, RATE, 1.0, tries=3, num=2, **how)
    for row in range(2):
        seed = how.get("seed", 0) + row
        each = [bundle.continue_audio(PROMPT, RATE, 1.0, **how | {"seed": seed + n * TRIES_APART}) for n in range(3)]
        waves = [one.wave[0, len(PROMPT) : one.samples[0]] for one in each]
        best = each[most_fitting(waves, torch.from_numpy(PROMPT), RATE)]
        assert made.samples[row] == best.samples[0] and made.tokens.ended[row] == best.tokens.ended[0]
        assert torch.equal(made.wave[row, : made.samples[row]], best.wave[0])


def test_without_semantic_tokens_and_all_codes_at_once(tmp_path):
    for name, make, how in (("a", {"semantic_optional": True}, {"system": "acoustic-only"}),
                            ("b", {"parallel": True}, {"decoder": "parallel"})):  # fmt: skip
        other = load(tiny.make_bundle(tmp_path / name, **make))
        each = takes(lambda other=other, how=how, **more: other.continue_audio(PROMPT, RATE, 0.4, **how, **more))
        best = most_fitting([wave[len(PROMPT) :] for wave in each], torch.from_numpy(PROMPT), RATE)
        assert torch.equal(other.continue_audio(PROMPT, RATE, 0.4, tries=3, **how).wave[0], each[best])


def test_only_a_continuation_made_at_once_has_the_bundles_own(bundle):
    eager = replace(bundle, manner=Manner((1.0, 1.0, 1.0), tries=3))
    made = eager.continue_audio(PROMPT, RATE, 0.4, seed=1)
    assert torch.equal(made.wave, eager.continue_audio(PROMPT, RATE, 0.4, seed=1, tries=3).wave)
    once = eager.continue_audio(PROMPT, RATE, 0.4, seed=1, tries=1)
    assert torch.equal(once.wave, eager.continuation(PROMPT, RATE, 0.4, seed=1).run().wave)
    assert eager.generation(0.4).settings.tries == 1
    assert [eager.manner.tries_for(seconds) for seconds in (0.1, 30, 30.1, 3600)] == [3, 3, 1, 1]
    assert [eager.manner.tries_for(1, num) for num in (1, 21, 22, 1000)] == [3, 3, 1, 1]
    many = eager.continue_audio(PROMPT, RATE, 0.1, num=22)
    assert torch.equal(many.wave, eager.continue_audio(PROMPT, RATE, 0.1, num=22, tries=1).wave)


@pytest.mark.parametrize(
    ("options", "about"),
    [
        ({"tries": 0}, "tries 0: 1 to 100"),
        ({"tries": 101}, "tries 101"),
        ({"num": 11, "tries": 100}, "num 11 of 100 tries each: 1000 at once"),
    ],
)
def test_too_many_are_refused(options, about):
    with pytest.raises(SegueError, match=about):
        settings_of(options, Manner())


@pytest.mark.parametrize("wrong", [0, 101, 2.0, "4", True, None])
def test_a_bundle_that_asks_for_no_number_of_tries_is_refused(wrong):
    with pytest.raises(SegueError, match="tries"):
        Manner.read({"tries": wrong}, "x", False)
    assert Manner.read({}, "x", False).tries == 1
    assert Manner.read(Manner(tries=7).told(), "x", False) == Manner(tries=7)
