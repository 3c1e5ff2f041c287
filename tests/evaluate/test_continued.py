"""What is measured of continuations: each measure by what it must be at its limits."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scorer_stubs as stubs
import tiny
import torch

from segue.evaluate import collapse, diversity, frechet, measures, played
from segue.evaluate.bench import Bench
from segue.evaluate.identity import identity
from segue.evaluate.played import Playing

NOISE = 0.1 * torch.randn(5 * tiny.RATE, generator=tiny.rng())
SOUND = torch.from_numpy(tiny.sound(5.0))
VARIED = torch.randint(0, 50, (200,), generator=tiny.rng())


def unit(*values: float) -> np.ndarray:
    return np.array(values) / np.linalg.norm(values)


def test_identity_of_voices_that_are_kept_and_of_voices_that_are_swapped():
    rng = np.random.default_rng(0)
    voices = np.eye(4)[np.arange(8) // 2] + 0.1 * rng.random((8, 4))
    prompts = [unit(*row) for row in voices]
    speakers = (np.arange(8) // 2).tolist()
    kept = identity(prompts, prompts, speakers, speakers)
    assert (kept.nearer_random == 1).all() and (kept.nearest == 1).all() and (kept.right == 1).all()
    assert (kept.own > kept.other).all()
    swapped = identity(prompts[4:] + prompts[:4], prompts, speakers, speakers)
    assert (swapped.nearest == 0).all() and (swapped.right == 0).all()
    assert (swapped.nearer_random < 1).all()


def test_a_prompt_of_the_same_group_is_no_other():
    same = unit(1, 0.1), unit(1, 0.0), unit(0, 1)
    found = identity([same[1], same[0], same[2]], list(same), [0, 0, 1], [0, 0, 1])
    assert found.nearest.tolist() == [1, 1, 1]
    assert found.right[:2].tolist() == [1, 1] and math.isnan(found.right[2]), "no other recording of that speaker"


def test_without_others_without_speakers_and_without_voices_nothing_is_told():
    one = [unit(1, 0)]
    alone = identity(one, one, [0], [-1])
    assert alone.own[0] == 1 and math.isnan(alone.nearest[0]) and math.isnan(alone.right[0])
    none = identity([None, unit(1, 0)], [unit(1, 0), None], [0, 1], [0, 1])
    assert np.isnan([none.own, none.nearest, none.right]).all()
    assert len(identity([], [], [], []).own) == 0


def test_sound_is_sound_and_collapse_is_told():
    good = collapse.faults(SOUND[:16_000], SOUND[16_000:], VARIED, tiny.RATE)
    assert not good.any and abs(good.level_db) < 6 and good.repeated < 0.1
    assert collapse.faults(SOUND, torch.zeros(80_000), VARIED, tiny.RATE).silence
    assert math.isnan(collapse.faults(SOUND, torch.zeros(80_000), VARIED, tiny.RATE).level_db)
    assert collapse.faults(SOUND, NOISE, VARIED, tiny.RATE).noise
    looped = VARIED[:10].repeat(20)
    assert collapse.faults(SOUND, SOUND, looped, tiny.RATE).loop


def test_a_pause_is_no_silence_but_two_seconds_are():
    pause = SOUND.clone()
    pause[16_000:40_000] = 0
    assert not collapse.faults(SOUND, pause, VARIED, tiny.RATE).silence
    pause[16_000:56_000] = 0
    assert collapse.faults(SOUND, pause, VARIED, tiny.RATE).silence
    assert collapse.longest_run(np.array([True, True, False, True])) == 2
    assert collapse.longest_run(np.zeros(3, dtype=bool)) == 0


def test_level_is_told_against_the_prompt():
    quieter = collapse.faults(SOUND, SOUND / 4, VARIED, tiny.RATE)
    assert quieter.level_db == pytest.approx(-12, abs=1.5)


def test_nothing_and_a_shred_are_silent_not_an_error():
    for wave in (torch.zeros(0), torch.zeros(2)):
        found = collapse.faults(SOUND, wave, torch.zeros(0, dtype=torch.long), tiny.RATE)
        assert found.silence and not found.noise and not found.loop and found.repeated == 0


def test_the_frechet_distance_is_that_of_two_gaussians():
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((4000, 3)) * scale + shift for scale, shift in ((1.0, 0.0), (2.0, 1.0))]
    sets = [[frechet.Moments(len(r), r.sum(0), r.T @ r)] for r in rows]
    # |m|^2 = 3, and for variances 1 and 4 in each of 3 dimensions 1 + 4 - 2 * 2 = 1
    assert frechet.distance(*sets) == pytest.approx(6.0, rel=0.05)
    assert frechet.distance(sets[0], sets[0]) == pytest.approx(0.0, abs=1e-9)


def test_the_frechet_distance_tells_noise_from_sound_and_has_an_interval():
    ours = [frechet.moments(torch.from_numpy(tiny.sound(3.0, seed)), tiny.RATE) for seed in range(8)]
    theirs = [frechet.moments(torch.from_numpy(tiny.sound(3.0, seed)), tiny.RATE) for seed in range(8, 16)]
    noise = [frechet.moments(NOISE[:48_000].roll(seed), tiny.RATE) for seed in range(8)]
    near, far = frechet.figure(ours, theirs, range(8), 0), frechet.figure(noise, theirs, range(8), 0)
    assert far.value > 5 * near.value and far.low > near.high
    assert near.low <= near.value <= near.high
    nothing = frechet.moments(torch.zeros(100), tiny.RATE)
    assert nothing.count == 0 and math.isnan(frechet.distance([nothing], theirs))


def test_edit_distance_is_levenshteins_without_repeats():
    assert diversity.edit_distance([1, 1, 2, 3], [1, 2, 2, 3, 3]) == 0
    assert diversity.edit_distance([1, 2, 3, 4], [1, 9, 3]) == 0.5
    assert diversity.edit_distance([1, 2], [3, 4, 5]) == 1
    assert diversity.edit_distance([], [3, 4]) == 1 and diversity.edit_distance([], []) == 0


def test_an_interval_of_means_is_the_bootstraps():
    rng = np.random.default_rng(0)
    groups, values = rng.integers(0, 12, 400).tolist(), rng.standard_normal(400).tolist()
    quick = measures.mean(values, groups, 0)
    slow = measures.bootstrap(range(400), groups, lambda rows: float(np.asarray(values)[rows].mean()), 0)
    assert quick.value == pytest.approx(slow.value)
    assert quick.low == pytest.approx(slow.low, abs=0.02) and quick.high == pytest.approx(slow.high, abs=0.02)


def test_a_mean_leaves_out_what_is_not_known_and_says_nothing_of_nothing():
    assert measures.mean([1.0, math.nan, 3.0], [0, 1, 2], 0).value == 2.0
    assert math.isnan(measures.mean([1.0, 2.0], [0, 0], 0).low)
    assert math.isnan(measures.mean([], [], 0).value) and math.isnan(measures.mean([math.nan], [0], 0).value)
    rates = measures.ratio([1, 0, 5], [10, 10, 5], [0, 1, 2], 0)
    assert rates.value == pytest.approx(6 / 25) and rates.low >= 0 and rates.high <= 1


def playing(onsets: float, pitch: int, level: float, bright: float = 0.0) -> Playing:
    return Playing(onsets, np.eye(12)[pitch], np.array([level, 5.0]), np.array([bright, -bright]), 120.0)


def test_a_piece_that_goes_on_as_it_did_is_nearer_than_the_others():
    truths = [playing(2 + piece, piece, -20 - piece, piece) for piece in range(4)]
    scale = played.scales(truths, range(4))
    same = [played.nearer(one, place, truths, truths, range(4), scale) for place, one in enumerate(truths)]
    assert np.min(same) == 1.0
    swapped = [played.nearer(truths[3 - place], place, truths, truths, range(4), scale) for place in range(4)]
    assert np.mean(swapped) < 0.5
    made = [playing(5, 0, -20)] * 4  # whatever the piece, so that it is as near as any other that was made
    assert np.mean([played.nearer(made[0], k, truths, made, range(4), scale) for k in range(4)]) == 0.5
    unheard = Playing(math.nan, np.zeros(12), np.array([-20.0, 5.0]), np.zeros(2), math.nan)
    row = played.nearer(unheard, 0, truths, truths, range(4), scale)
    assert [math.isnan(value) for value in row] == [True, True, False, True, False]
    assert np.isnan(played.nearer(truths[0], 0, truths, truths, [0, 0, 0, 0], scale)).all()
    silent = [replace(truths[1], onsets=math.nan) if k == 1 else one for k, one in enumerate(truths)]
    assert played.nearer(truths[0], 0, silent, silent, range(4), played.scales(silent, range(4))) == [1] * 5
    assert np.isfinite(played.scales(silent, range(4))).all()


def test_an_instrument_is_named_by_other_recordings():
    truths = [playing(2, 0, -20, bright) for bright in (1.0, 1.1, 5.0, 5.1)]
    fonts = ["a", "a", "b", "b"]
    assert played.named(truths, truths, fonts, range(4)).tolist() == [1, 1, 1, 1]
    assert played.named(truths[::-1], truths, fonts, range(4)).tolist() == [0, 0, 0, 0]
    assert np.isnan(played.named(truths, truths, [None] * 4, range(4))).all()


def test_tempi_an_octave_apart_are_one():
    assert played.same_tempo(120, 60) == played.same_tempo(120, 125) == 1
    assert played.same_tempo(120, 90) == 0 and math.isnan(played.same_tempo(120, math.nan))


def test_silence_has_no_notes_and_no_key(monkeypatch):
    stubs.use(monkeypatch)
    context = SimpleNamespace(bundle=SimpleNamespace(sample_rate=tiny.RATE))
    bench = Bench(played.SCORERS, "piano", tiny.RATE)
    found = played.playing(context, bench, torch.zeros(32_000))
    assert found.onsets == 0 and found.pitches.sum() == 0 and math.isnan(played.cosine(found.pitches, np.ones(12)))
    assert math.isnan(played.playing(context, bench, torch.zeros(2)).onsets)
