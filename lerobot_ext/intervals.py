# SPDX-License-Identifier: Apache-2.0
"""Intervals for the figures that are shown to people."""

import math

_Z95 = 1.959964


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
    return max(0.0, centre - half), min(1.0, centre + half)
