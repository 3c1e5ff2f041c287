"""What answers tell: shares with exact intervals, sensitivity and bias, agreement of raters.

Sources: Clopper and Pearson, Biometrika 26 (1934) for the interval; Macmillan and Creelman, Detection Theory (2005),
chapters 1 and 2, for d' and c, with Hautus's (1995) half a count added to every cell; Krippendorff, Computing
Krippendorff's Alpha-Reliability (2011), section C, for the agreement.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from segue.errors import SegueError

_HALVINGS = 100


@dataclass(frozen=True)
class Share:
    """So many of so many.

    Attributes:
        count: of them.
        total: of all; 0 where there is nothing to be a share of.
        share: from 0 to 1; NaN of nothing.
        low: lower end of the exact 95 % interval.
        high: upper end.
        p: two-sided, that it would be as far from one half by chance.
    """

    count: int
    total: int
    share: float
    low: float
    high: float
    p: float


def share(count: int, total: int) -> Share:
    """A share with its interval and p-value.

    Raises:
        SegueError: if there are more than all, or fewer than none.
    """
    if not 0 <= count <= total:
        raise SegueError(f"{count} of {total}: from 0 to all of them")
    if total == 0:
        return Share(0, 0, math.nan, math.nan, math.nan, math.nan)
    return Share(count, total, count / total, *exact_interval(count, total), two_sided(count, total))


def exact_interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson: the chances under which neither tail, the count included, falls below half of the rest."""
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else _solve(lambda p: _at_least(count, total, p) < tail)
    high = 1.0 if count == total else _solve(lambda p: _at_least(total - count, total, 1 - p) >= tail)
    return low, high


def two_sided(count: int, total: int) -> float:
    """Exact two-sided p-value against one half."""
    return min(1.0, 2 * _at_least(max(count, total - count), total, 0.5))


@dataclass(frozen=True)
class Detection:
    """How well one kind is told from another.

    Attributes:
        sensitivity: d': 0 is chance.
        criterion: c: above 0, "recorded" is said more readily than "made".
    """

    sensitivity: float
    criterion: float


def detection(hits: int, signals: int, false_alarms: int, others: int) -> Detection | None:
    """d' and c.

    Args:
        hits: signals that were called signals.
        signals: there were.
        false_alarms: others that were called signals.
        others: there were.

    Returns:
        None where there were no signals or no others.
    """
    if not signals or not others:
        return None
    hit, false = (hits + 0.5) / (signals + 1), (false_alarms + 0.5) / (others + 1)
    z_hit, z_false = (NormalDist().inv_cdf(rate) for rate in (hit, false))
    return Detection(z_hit - z_false, -(z_hit + z_false) / 2)


def alpha(units: Sequence[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha of nominal answers: 1 all agree, 0 as by chance, below 0 worse than that.

    Args:
        units: the answers that each thing got, from as many raters as there were.

    Returns:
        None where no thing has two answers, or all answers are one.
    """
    pairable = [Counter(unit) for unit in units if len(unit) > 1]
    totals: Counter[Hashable] = sum(pairable, Counter())
    whole = totals.total()
    expected = whole * whole - sum(count * count for count in totals.values())
    if expected == 0:
        return None
    observed = math.fsum(
        (unit.total() ** 2 - sum(count * count for count in unit.values())) / (unit.total() - 1) for unit in pairable
    )
    return 1 - (whole - 1) * observed / expected


def _at_least(count: int, total: int, chance: float) -> float:
    """Probability of so many or more of `total`."""
    if count <= 0 or chance >= 1:
        return 1.0
    if chance <= 0:
        return 0.0
    logs = (
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
        + k * math.log(chance) + (total - k) * math.log1p(-chance)
        for k in range(count, total + 1)
    )  # fmt: skip
    return min(1.0, math.fsum(math.exp(log) for log in logs))


def _solve(below: Callable[[float], bool]) -> float:
    """Where a chance stops being below, by halving."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2
