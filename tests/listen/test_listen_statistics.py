"""Figures of answers against published values and scipy's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import SegueError
from segue.listen.statistics import alpha, detection, exact_interval, share, two_sided


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 1500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_intervals_and_p_values_are_scipys(case):
    stats = pytest.importorskip("scipy.stats")
    count, total = case
    theirs = stats.binomtest(count, total, 0.5)
    interval = theirs.proportion_ci(0.95, "exact")
    assert exact_interval(count, total) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert two_sided(count, total) == pytest.approx(theirs.pvalue, rel=1e-7, abs=1e-300)


def test_a_share_says_how_sure_it_is():
    told = share(512, 1000)
    assert told.share == 0.512 and told.low == pytest.approx(0.4805, abs=1e-4) and told.high > 0.543
    assert told.p == pytest.approx(0.4670, abs=1e-4)
    assert share(5, 10).p == 1.0 and share(10, 10).p == pytest.approx(2 / 1024)
    assert (share(0, 8).low, share(8, 8).high) == (0.0, 1.0)
    nothing = share(0, 0)
    assert nothing.total == 0 and math.isnan(nothing.share) and math.isnan(nothing.p)
    with pytest.raises(SegueError, match="9 of 8"):
        share(9, 8)


def test_sensitivity_and_bias():
    chance = detection(25, 50, 25, 50)
    assert chance is not None and chance.sensitivity == pytest.approx(0) and chance.criterion == pytest.approx(0)
    good = detection(40, 50, 10, 50)
    assert (
        good is not None and good.sensitivity == pytest.approx(1.645, abs=0.01) and good.criterion == pytest.approx(0)
    )
    shy = detection(10, 50, 2, 50)
    assert shy is not None and shy.sensitivity > 0 and shy.criterion > 1
    perfect = detection(20, 20, 0, 20)
    assert perfect is not None and 3 < perfect.sensitivity < 5, "finite, by half a count in every cell"
    assert detection(0, 0, 1, 2) is None and detection(1, 2, 0, 0) is None


def test_agreement_is_krippendorffs():
    """Sections A, B and C of Krippendorff (2011), whose alphas are printed there."""
    first, second = "0100000000", "1110010010"
    assert alpha(list(zip(first, second, strict=True))) == pytest.approx(0.095, abs=5e-4)
    first, second = "aabbdcccedda", "babbbccceddd"
    assert alpha(list(zip(first, second, strict=True))) == pytest.approx(0.692, abs=5e-4)
    rows = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    units = [[answer for answer in column if answer != "."] for column in zip(*rows, strict=True)]
    assert alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_agreement_at_its_ends():
    assert alpha([[1, 1, 1], [2, 2, 2]]) == 1
    assert alpha([[1, 2], [2, 1], [1, 2]]) < 0
    assert alpha([[1, 1], [1, 1]]) is None and alpha([[1], [2]]) is None and alpha([]) is None
