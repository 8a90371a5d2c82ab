# SPDX-License-Identifier: Apache-2.0
"""Intervals for the figures that are shown to people."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z95 = 1.959964
# Student's t, 97.5 %, for 1 to 30 degrees of freedom; beyond, an expansion around the normal's quantile.
_T975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Args:
        value (`float`): NaN where there was nothing to average.
        low (`float`, *optional*), high (`float`, *optional*): The interval; `None` where one episode cannot
            give any.
    """

    value: float
    low: float | None = None
    high: float | None = None


def ratio_interval(sums: Sequence[float], counts: Sequence[float]) -> Estimate:
    """A mean over samples that come in clusters, frames of episodes say, with its 95 % interval.

    Samples of one cluster resemble each other, so that the clusters are what varies: the interval is
    Student's t on the linearised variance of the ratio of both totals.
    Source: W. G. Cochran, "Sampling Techniques", 3rd edition, 1977, section 6.3.

    Args:
        sums (`Sequence[float]`): Sum of each cluster's samples, none of them negative.
        counts (`Sequence[float]`): Their numbers; clusters without samples are left out.
    """
    pairs = [(total, count) for total, count in zip(sums, counts, strict=True) if count > 0]
    n, everything = len(pairs), sum(count for _, count in pairs)
    if not pairs:
        return Estimate(math.nan)
    ratio = sum(total for total, _ in pairs) / everything
    if n < 2:
        return Estimate(ratio)
    squares = sum((total - ratio * count) ** 2 for total, count in pairs)
    half = _student(n - 1) * math.sqrt(n / (n - 1) * squares) / everything
    return Estimate(ratio, max(0.0, ratio - half), ratio + half)


def _student(degrees: int) -> float:
    """The 97.5 % quantile of Student's t.

    Source of the expansion: Abramowitz and Stegun, 26.7.5.
    """
    if degrees <= len(_T975):
        return _T975[degrees - 1]
    z = _Z95
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / degrees + second / degrees**2


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % Wilson score interval of a success rate, as fractions.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Raises:
        ValueError: If there are no trials or more successes than trials.
    """
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(f"need 0 <= successes <= trials and trials > 0, got {successes} of {trials}.")
    p = successes / trials
    z2 = _Z95 * _Z95 / trials
    centre = (p + z2 / 2) / (1 + z2)
    half = _Z95 / (1 + z2) * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials))
    # At none and at all the bound is the rate itself, which rounding would miss.
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))
