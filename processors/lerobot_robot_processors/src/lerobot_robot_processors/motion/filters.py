# SPDX-License-Identifier: Apache-2.0
"""Smoothing of several streams of joints at once: exponential average and One-Euro.

One-Euro: Géry Casiez, Nicolas Roussel, Daniel Vogel, "1€ Filter: A Simple Speed-based Low-pass Filter for
Noisy Input in Interactive Systems", CHI 2012 (https://doi.org/10.1145/2207676.2208639); reference code
https://gery.casiez.net/1euro.

Differences from the reference: the derivative is taken of the filtered value's distance to the new one (as
the paper's text and most implementations do; the first listing takes raw values), and values that are angles
may be unwrapped first. B is the number of streams, D of joints.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Unwrap:
    """Makes angles continuous, and puts filtered ones back into the range they came in.

    Args:
        periods (`FloatArray`): (D,) a whole turn in each joint's units; infinite where a joint does not wrap.
    """

    def __init__(self, periods: FloatArray) -> None:
        self._periods = np.where(np.isfinite(periods), periods, 1.0)
        self._wraps = np.isfinite(periods)
        self._last: FloatArray | None = None

    def continuous(self, values: FloatArray) -> FloatArray:
        """(B, D) values, each the whole number of turns away that is nearest to the one before."""
        if self._last is not None:
            turns = np.round((self._last - values) / self._periods)
            values = np.where(self._wraps, values + turns * self._periods, values)
        self._last = values
        return values

    def back(self, values: FloatArray) -> FloatArray:
        """(B, D) values within half a turn of zero where a joint wraps; others as they are."""
        turns = np.round(values / self._periods)
        return np.where(self._wraps, values - turns * self._periods, values)


class ExponentialFilter:
    """y = y + α (x - y).

    Args:
        alpha (`float`): Weight of the new value, in (0, 1]; 1 passes values unchanged.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._y: FloatArray | None = None

    def __call__(self, x: FloatArray) -> FloatArray:
        """(B, D) smoothed; the first value passes as it is."""
        self._y = x if self._y is None else self._y + self._alpha * (x - self._y)
        return self._y


class OneEuroFilter:
    """An exponential filter whose cut-off rises with speed: calm at rest, quick in motion.

    Args:
        fps (`float`): Values per second.
        min_cutoff_hz (`float`): Cut-off at rest: lower is calmer.
        beta (`float`): How much the cut-off rises per unit/s: higher lags less in motion.
        derivative_cutoff_hz (`float`): Cut-off of the speed's own filter.
    """

    def __init__(self, fps: float, min_cutoff_hz: float, beta: float, derivative_cutoff_hz: float) -> None:
        self._fps = fps
        self._min_cutoff_hz = min_cutoff_hz
        self._beta = beta
        self._derivative_alpha: Final = float(smoothing_factor(np.array(derivative_cutoff_hz), fps))
        self._x: FloatArray | None = None
        self._dx: FloatArray | None = None

    def __call__(self, x: FloatArray) -> FloatArray:
        """(B, D) smoothed; the first value passes as it is."""
        if self._x is None or self._dx is None:
            self._x, self._dx = x, np.zeros_like(x)
            return x
        speed = (x - self._x) * self._fps
        self._dx = self._dx + self._derivative_alpha * (speed - self._dx)
        alpha = smoothing_factor(self._min_cutoff_hz + self._beta * np.abs(self._dx), self._fps)
        self._x = self._x + alpha * (x - self._x)
        return self._x


def smoothing_factor(cutoff_hz: FloatArray, fps: float) -> FloatArray:
    """α of an exponential filter with a cut-off frequency: 1 / (1 + τ fps), τ = 1 / (2π f)."""
    turn = 2.0 * math.pi * np.asarray(cutoff_hz, dtype=np.float64)
    return turn / (turn + fps)
