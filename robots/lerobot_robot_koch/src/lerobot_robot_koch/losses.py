# SPDX-License-Identifier: Apache-2.0
"""Remembers that a bus of this process was lost, so that the other arm can act on it at the end."""

import time

_lost_at_s: list[float] = []


def note_loss() -> None:
    """A bus was given up, or its port has gone."""
    _lost_at_s.append(time.monotonic())


def lost_since(start_s: float) -> bool:
    """Whether any bus was lost at or after `start_s` (monotonic)."""
    return any(when >= start_s for when in _lost_at_s)
