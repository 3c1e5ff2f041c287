"""ABX: equal to a brute-force count of every triple; its limits; time warping against the plain recursion."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import SegueError
from segue.evaluate.abx import Items, abx, cells, warped


def drawn(seed: int, segments: bool, whole: bool = False, contexts: bool = False, n: int = 36) -> Items:
    """Random items of three kinds and three speakers, with something of both in the features."""
    rng = np.random.default_rng(seed)
    labels, speakers = rng.integers(0, 3, n), rng.integers(0, 3, n)

    def features(i: int, length: int) -> torch.Tensor:
        if whole:
            return torch.from_numpy((rng.integers(0, 3, (length, 4)) + labels[i]) % 4)
        made = rng.standard_normal((length, 5)) + 0.8 * np.eye(5)[labels[i]] + 0.8 * np.eye(5)[4 - speakers[i]]
        return torch.from_numpy(made).float()

    found = [features(i, int(rng.integers(1, 5)) if segments else 1) for i in range(n)]
    given_contexts = torch.from_numpy(rng.integers(0, 2, n)) if contexts else None
    return Items(
        found if segments else torch.cat(found), torch.from_numpy(labels), torch.from_numpy(speakers), given_contexts
    )


def plain_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of two segments by the recursion as it is written in books; single frames are segments of one."""

    def frame(u: torch.Tensor, v: torch.Tensor) -> float:
        if not u.is_floating_point():
            return float((u != v).float().mean())
        u, v = u.double(), v.double()
        return round(math.acos(max(-1.0, min(1.0, float(u @ v / (u.norm() * v.norm()))))) / math.pi, 5)

    @cache
    def best(i: int, j: int) -> tuple[float, int]:
        if i < 0 or j < 0:
            return (0.0, 0) if i == j == -1 else (math.inf, 0)
        before = min((best(i - 1, j - 1), best(i - 1, j), best(i, j - 1)), key=lambda pair: pair[0])
        return before[0] + frame(a[i], b[j]), before[1] + 1

    total, steps = best(len(a) - 1, len(b) - 1)
    return total / steps


def brute_force(items: Items, mode: str) -> float:
    """Every triple, one by one."""
    features = [row if row.ndim == 2 else row[None] for row in items.features]
    label, speaker = items.labels.tolist(), items.speakers.tolist()
    context = [0] * len(label) if items.contexts is None else items.contexts.tolist()
    n = range(len(label))
    distance = [[plain_distance(features[i], features[j]) for j in n] for i in n]
    found: dict[tuple, list[float]] = {}
    for x in n:
        for a in n:
            for b in n:
                if a == x or label[a] != label[x] or label[b] == label[x] or speaker[a] != speaker[b]:
                    continue
                if (speaker[a] == speaker[x]) != (mode == "within") or not context[a] == context[b] == context[x]:
                    continue
                gap = distance[b][x] - distance[a][x]
                wrong = 0.5 if abs(gap) < 1e-6 else float(gap < 0)
                found.setdefault((label[a], label[b], speaker[a], speaker[x]), []).append(wrong)
    pairs: dict[tuple, list[float]] = {}
    for (a, b, _, _), values in found.items():
        pairs.setdefault((a, b), []).append(float(np.mean(values)))
    return float(np.mean([np.mean(values) for values in pairs.values()]))


@pytest.mark.parametrize("mode", ["within", "across"])
@pytest.mark.parametrize("segments", [False, True], ids=["frames", "segments"])
@pytest.mark.parametrize("whole", [False, True], ids=["features", "codes"])
@pytest.mark.parametrize("contexts", [False, True], ids=["any context", "own context"])
def test_it_is_the_count_over_every_triple(mode, segments, whole, contexts):
    items = drawn(3, segments, whole, contexts)
    assert abx(items, mode, most=99).error == pytest.approx(brute_force(items, mode), abs=1e-5)


def test_what_tells_kinds_apart_has_no_error_and_what_tells_nothing_is_chance():
    items = drawn(0, False, n=200)
    kinds = torch.nn.functional.one_hot(items.labels, 3).float()
    voices = torch.nn.functional.one_hot(items.speakers, 3).float()
    for mode in ("within", "across"):
        assert abx(Items(kinds, items.labels, items.speakers), mode).error == 0.0
        assert abx(Items(voices, items.labels, items.speakers), mode).error == 0.5
        assert abx(Items(items.labels[:, None], items.labels, items.speakers), mode).error == 0.0
    noise = torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
    assert abs(abx(Items(noise, items.labels, items.speakers), "across").error - 0.5) < 0.05


def test_a_voice_in_the_features_costs_across_speakers_alone():
    items = drawn(1, False, n=300)
    kinds = torch.nn.functional.one_hot(items.labels, 3).float()
    rotated = torch.stack([kinds[i].roll(int(items.speakers[i])) for i in range(300)])  # each voice has its own code
    loud = Items(rotated, items.labels, items.speakers)
    assert abx(loud, "within").error == 0.0 and abx(loud, "across").error > 0.5


def test_the_interval_holds_the_error_and_is_the_same_again():
    items = drawn(2, False, n=150)
    first, again = abx(items, "across", seed=5, most=4), abx(items, "across", seed=5, most=4)
    assert first == again and first.low <= first.error <= first.high and first.speakers == 3
    assert abx(items, "across", seed=6, most=4) != first


def test_no_more_items_than_asked_are_taken_of_a_kind_and_speaker():
    items = drawn(4, False, n=400)
    few = cells(items, "across")
    assert few.shape == (3, 3, 3, 3) and few.diagonal(dim1=0, dim2=1).isnan().all()
    assert abs(abx(items, "across", most=8).error - abx(items, "across", most=400).error) < 0.1


def test_what_has_no_triples_is_not_a_number():
    alone = Items(torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 1, 1]), torch.zeros(6, dtype=torch.int64))
    assert math.isnan(abx(alone, "across").error) and not math.isnan(abx(alone, "within").error)


def test_items_that_do_not_fit_each_other_are_refused():
    with pytest.raises(SegueError, match="give one of each"):
        Items(torch.zeros(3, 2), torch.zeros(2), torch.zeros(3))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
def test_warping_is_the_plain_recursion(rows, columns, seed):
    rng = np.random.default_rng(seed)
    a, b = (torch.from_numpy(rng.standard_normal((size, 3))).float() for size in (rows, columns))
    unit = torch.nn.functional.normalize(a, dim=-1) @ torch.nn.functional.normalize(b, dim=-1).T
    padded = torch.zeros(1, 7, 7)
    padded[0, :rows, :columns] = (torch.acos(unit.double().clamp(-1, 1)) / math.pi * 1e5).round() / 1e5
    found = warped(padded, torch.tensor([rows]), torch.tensor([columns]))
    assert float(found) == pytest.approx(plain_distance(a, b), abs=1e-5)


def test_a_stretched_segment_is_the_same_segment():
    segment = torch.randn(4, 6)
    slow = segment.repeat_interleave(3, dim=0)
    assert plain_distance(segment, slow) == 0.0
    items = Items([segment, slow, torch.randn(4, 6)], torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]))
    assert abx(items, "across").error == 0.0
