# SPDX-License-Identifier: Apache-2.0
"""Layers that need not run for every plan: their last outputs serve for some more."""

from __future__ import annotations

from collections.abc import Mapping

from .layers.base import LayerOutput


class SlowLayers:
    """Outputs of a running policy's slow layers.

    Args:
        intervals (`Mapping[str, int]`): For how many plans one output of each slow layer serves, at least 1.
    """

    def __init__(self, intervals: Mapping[str, int]) -> None:
        self.intervals = dict(intervals)
        self._kept: dict[str, tuple[LayerOutput, int]] = {}

    def clear(self) -> None:
        """Forget the episodes."""
        self._kept.clear()

    def keep(self, name: str, output: LayerOutput) -> None:
        """Keep what a layer has just put out, if it is slow."""
        plans = self.intervals.get(name, 1) - 1
        if plans > 0:
            self._kept[name] = (output, plans)

    def recall(self, name: str, batch: int) -> LayerOutput | None:
        """What a layer put out before, for `batch` robots; None where it has to run."""
        output, plans = self._kept.pop(name, (None, 0))
        if output is None or len(output.features) != batch:
            return None
        if plans > 1:
            self._kept[name] = (output, plans - 1)
        return output
