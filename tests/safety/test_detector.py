"""The detector: it finds a difference that is there, none where there is none, and is the same from the disk."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from segue.artifact import load_part, save_part
from segue.errors import SegueError
from segue.safety import validation
from segue.safety.detector import Detector, DetectorConfig, load, pieces_of, train
from segue.semantic.features import SAMPLE_RATE

CONFIG = DetectorConfig(piece_seconds=0.4, mel_bands=16, width=8, steps=60, batch_size=16)


def sounds(count: int, first: int = 0) -> list[torch.Tensor]:
    waves = [torch.from_numpy(tiny.sound(2.4, seed)) for seed in range(first, first + count)]
    return [pieces_of(wave, tiny.RATE, CONFIG) for wave in waves]


def hissing(pieces: torch.Tensor) -> torch.Tensor:
    """With a little noise."""
    return pieces + 0.01 * torch.randn(pieces.shape, generator=tiny.rng())


@pytest.fixture(scope="module")
def detector() -> Detector:
    real = sounds(6)
    return train(real, [hissing(pieces) for pieces in sounds(6, 50)], CONFIG, 0)


def test_a_difference_is_found_in_sound_it_never_heard(detector):
    real, made = torch.from_numpy(tiny.sound(2.0, 99)), torch.from_numpy(tiny.sound(2.0, 98))
    assert detector.score(real, SAMPLE_RATE) < 0.5 < detector.score(hissing(made[None])[0], SAMPLE_RATE)


def test_loudness_is_no_clue(detector):
    wave = torch.from_numpy(tiny.sound(2.0, 97))
    assert detector.score(wave, SAMPLE_RATE) == pytest.approx(detector.score(0.8 * wave, SAMPLE_RATE), abs=0.1)


def test_training_is_a_function_of_the_seed(detector):
    state = torch.get_rng_state()
    again = train(sounds(6), [hissing(pieces) for pieces in sounds(6, 50)], CONFIG, 0)
    assert torch.equal(state, torch.get_rng_state()), "no one else's draws are touched"
    ours, theirs = detector.to_part({}, {}), again.to_part({}, {})
    assert ours.fingerprint == theirs.fingerprint
    other = train(sounds(2), sounds(2, 50), CONFIG, 1)
    assert other.to_part({}, {}).fingerprint != ours.fingerprint


def test_from_the_disk_it_is_what_it_was(detector, tmp_path):
    save_part(detector.to_part({"recordings": 6}, {"codec": "c"}), tmp_path / "detector")
    found = load(tmp_path / "detector")
    pieces = torch.cat(sounds(2, 70))
    assert torch.equal(found.logits(pieces), detector.logits(pieces))
    assert found.card == {"recordings": 6} and found.requires == {"codec": "c"} and found.config == CONFIG
    part = load_part(tmp_path / "detector")
    with pytest.raises(SegueError, match="describes no detector"):
        Detector.from_part(replace(part, kind="codec"))
    with pytest.raises(SegueError, match="don't fit"):
        Detector.from_part(replace(part, tensors={}))
    with pytest.raises(SegueError):
        load(tmp_path / "nowhere")


def test_what_can_not_be_scored_is_refused(detector):
    with pytest.raises(SegueError, match=r"0\.10 s of sound, at least 0\.4 s"):
        detector.score(torch.zeros(1600), SAMPLE_RATE)
    with pytest.raises(SegueError, match="0 real pieces"):
        train([], sounds(1), CONFIG, 0)
    with pytest.raises(SegueError, match="pieces of"):
        DetectorConfig(piece_seconds=0.0)


def test_any_rate_will_do(detector):
    wave = torch.from_numpy(tiny.sound(1.0, 5, 24_000))
    assert pieces_of(wave, 24_000, CONFIG).shape == (2, CONFIG.piece_samples)
    assert 0 <= detector.score(wave, 24_000) <= 1


def test_nobody_is_trained_on_and_heard(monkeypatch):
    real, made, groups = sounds(5), sounds(5, 50), [0, 0, 1, 2, 2]
    known: list[set[int]] = []

    def spy(real_side, made_side, config, seed):
        known.append({groups[place] for place in range(5) if any(real[place] is one for one in real_side)})
        return train(real_side, made_side, replace(config, steps=1), seed)

    monkeypatch.setattr(validation, "train", spy)
    heard = validation.cross_validated(real, made, groups, CONFIG, 0)
    assert [one.group for one in heard] == groups and all(len(one.real) == 6 for one in heard)
    assert sorted(map(sorted, known)) == [[0, 1], [0, 2], [1, 2]]
    with pytest.raises(SegueError, match="at least 2"):
        validation.cross_validated(real, made, [3] * 5, CONFIG, 0)


def test_cross_validation_finds_what_is_there_and_nothing_else():
    real = sounds(10)
    heard = validation.cross_validated(real, [hissing(pieces) for pieces in real], list(range(10)), CONFIG, 0)
    scores, labels, groups = validation.scores_of(heard, 1)
    assert len(scores) == len(labels) == len(groups) == 2 * 10 * 6
    assert validation.accuracy(scores, labels) > 0.9 and validation.area(scores, labels) > 0.9
    whole, marks, _ = validation.scores_of(heard, None)
    assert len(whole) == 20 and validation.accuracy(whole, marks) > 0.9
    first, second = validation.halves(real, 0)
    nothing = validation.cross_validated(first, second, list(range(10)), CONFIG, 0)
    scores, labels, _ = validation.scores_of(nothing, 1)
    assert 0.3 < validation.accuracy(scores, labels) < 0.7


def test_halves_share_a_recording_evenly():
    real = sounds(2)
    for pieces, first, second in zip(real, *validation.halves(real, 0), strict=True):
        both = torch.cat([first, second])
        assert len(first) == len(second) == len(pieces) // 2
        assert {tuple(row.tolist()) for row in both} <= {tuple(row.tolist()) for row in pieces}
        assert len({tuple(row.tolist()) for row in both}) == len(both)


@pytest.mark.parametrize(
    ("scores", "labels", "accuracy", "area", "error"),
    [
        ([-2, -1, 1, 2], [0, 0, 1, 1], 1.0, 1.0, 0.0),
        ([-2, -1, 1, 2], [1, 1, 0, 0], 0.0, 0.0, 1.0),
        ([0, 0, 0, 0], [0, 0, 1, 1], 0.5, 0.5, 0.5),
        ([-1, 1, -1, 1], [0, 0, 1, 1], 0.5, 0.5, 0.5),
        ([1, 2, 3, 4], [0, 0, 1, 1], 0.5, 1.0, 0.0),
        ([-3, -2, 1, -1, 2, 3], [0, 0, 0, 1, 1, 1], 4 / 6, 8 / 9, 1 / 3),
    ],
)
def test_figures_of_scores(scores, labels, accuracy, area, error):
    values, marks = np.asarray(scores, float), np.asarray(labels)
    assert validation.accuracy(values, marks) == pytest.approx(accuracy)
    assert validation.area(values, marks) == pytest.approx(area)
    assert validation.equal_error_rate(values, marks) == pytest.approx(error)


def test_without_both_kinds_there_is_no_figure():
    assert math.isnan(validation.area(np.asarray([1.0]), np.asarray([1])))
    assert math.isnan(validation.equal_error_rate(np.asarray([1.0]), np.asarray([1])))
    assert math.isnan(validation.accuracy(np.zeros(0), np.zeros(0)))


def test_longer_stretches_are_means_of_whole_pieces():
    heard = [validation.Heard(np.arange(5.0), 10 + np.arange(5.0), 7)]
    scores, labels, groups = validation.scores_of(heard, 2)
    assert scores.tolist() == [0.5, 2.5, 10.5, 12.5] and labels.tolist() == [0, 0, 1, 1] and groups == [7] * 4
    assert validation.scores_of(heard, None)[0].tolist() == [2.0, 12.0]
    assert len(validation.scores_of([validation.Heard(np.zeros(0), np.zeros(0), 1)], None)[0]) == 0
