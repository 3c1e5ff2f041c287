"""Measures of tokens against scikit-learn's and by what they must be at their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from segue.errors import SegueError
from segue.evaluate import measures


def pair(seed: int, n: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, n)
    tokens = np.where(rng.random(n) < 0.6, labels * 2 + rng.integers(0, 2, n), rng.integers(0, 12, n))
    return torch.from_numpy(tokens), torch.from_numpy(labels)


def test_information_is_scikit_learns():
    tokens, labels = pair(0)
    table = measures.counts(tokens, labels)
    assert table.sum() == 2000 and table[3, 1] == ((tokens == 3) & (labels == 1)).sum()
    assert measures.information(table) == pytest.approx(mutual_info_score(labels, tokens), abs=1e-9)
    spread = measures.entropy(table.sum(0)) + measures.entropy(table.sum(1))
    both = normalized_mutual_info_score(labels, tokens)
    assert 2 * measures.information(table) / spread == pytest.approx(both, abs=1e-9)


def test_units_that_name_the_kind_are_pure_and_tell_all():
    labels = pair(1)[1]
    table = measures.counts(labels + 3, labels)
    assert measures.purity(table) == 1.0 and measures.normalised_information(table) == pytest.approx(1.0)
    silent = measures.counts(torch.zeros_like(labels), labels)
    assert measures.normalised_information(silent) == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(measures.normalised_information(table[:, :1])), "one kind has no information"
    assert measures.purity(silent) == pytest.approx(float(torch.bincount(labels).max()) / len(labels))


def speaking(loud: bool, seed: int = 0) -> tuple[list[torch.Tensor], list[int]]:
    """Four speakers of three recordings; with `loud` each prefers its own tokens."""
    rng = np.random.default_rng(seed)
    recordings, speakers = [], []
    for speaker in range(4):
        for _ in range(3):
            tokens = rng.integers(0, 16, (2, 130))
            if loud:
                tokens = np.where(rng.random((2, 130)) < 0.5, 4 * speaker + rng.integers(0, 4, (2, 130)), tokens)
            recordings.append(torch.from_numpy(tokens))
            speakers.append(speaker)
    return recordings, speakers


def test_speakers_are_told_by_their_tokens_if_those_differ():
    loud = measures.speaker_accuracy(*speaking(True), size=16, piece_frames=40, seed=0)
    assert loud.accuracy.value > 0.9 and loud.speakers == 4 and loud.pieces == 36 and loud.chance == 0.25
    assert loud.accuracy.low <= loud.accuracy.value <= loud.accuracy.high
    quiet = measures.speaker_accuracy(*speaking(False), size=16, piece_frames=40, seed=0)
    assert quiet.accuracy.value < 0.5
    assert measures.speaker_accuracy(*speaking(True), size=16, piece_frames=40, seed=0) == loud


def test_a_speaker_of_one_recording_can_not_be_tested():
    recordings, _ = speaking(True)
    with pytest.raises(SegueError, match="1 speakers with two recordings"):
        measures.speaker_accuracy(recordings[:4], [0, 0, 0, 1], 16, 40, 0)
    few = measures.speaker_accuracy(recordings[:7], [0, 0, 0, 1, 1, 1, 2], 16, 40, 0)
    assert few.speakers == 2 and math.isnan(few.accuracy.low)


def test_an_interval_over_speakers_is_wider_than_chance_over_rows():
    speakers = np.repeat(np.arange(6), 50)
    values = np.repeat([0, 0, 0, 1, 1, 1], 50).astype(float)
    found = measures.bootstrap(range(300), speakers.tolist(), lambda rows: float(values[rows].mean()), seed=0)
    assert found.value == 0.5 and found.low < 0.25 and found.high > 0.75


def test_agreement_near_a_cut_and_away_from_it():
    whole, part = torch.arange(100), torch.arange(75)
    part[-5:] += 1
    assert measures.agreement(whole, part, 10) == (0.5, 1.0)
