# SPDX-License-Identifier: Apache-2.0
"""Which of the tried settings to recommend: pure logic over what was measured."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from lerobot_ext.recording.candidates import Candidate
from lerobot_ext.recording.load import Load

if TYPE_CHECKING:
    from lerobot_ext.recording.trial import Effort, Pace

PSNR_LOSS_DB: Final = 0.5
"""How much worse than stock's default a picture may be."""
DECODE_FACTOR: Final = 1.5
"""How much longer than the fastest a random frame may take to decode: training pays it for ever."""
_LATE_SHARE: Final = 0.01
_KEPT_UP: Final = 0.98
_FULLEST: Final = 0.5
_FPS: Final = (60, 50, 30, 25, 20, 15, 10, 5)
_SCALES: Final = (0.75, 0.5, 0.375, 0.25)


@dataclass(frozen=True)
class Row:
    """What is known of one candidate.

    Args:
        candidate (`Candidate`): The settings.
        effort (`Effort | None`): As fast as it goes; `None` where it does not work.
        pace (`Pace | None`): Fed steadily; `None` where it was too slow to try.
        why_not (`str`): Why it does not hold, in words; empty when it does.
    """

    candidate: Candidate
    effort: "Effort | None" = None
    pace: "Pace | None" = None
    why_not: str = "not tried"

    @property
    def holds(self) -> bool:
        """Whether it keeps up, with head-room."""
        return not self.why_not


def shortfall(pace: "Pace") -> str:
    """Why a candidate that was fed like this does not hold; empty when it does."""
    if pace.dropped:
        return f"{pace.dropped} frames dropped"
    if pace.late > max(1, _LATE_SHARE * pace.ticks):
        return f"{pace.late} of {pace.ticks} late"
    if pace.kept_up < _KEPT_UP:
        return f"falls behind ({pace.kept_up:.0%})"
    if pace.fullest > _FULLEST:
        return f"queue {pace.fullest:.0%} full"
    return ""


def ranked(rows: Iterable[Row], reference_psnr: float) -> list[Row]:
    """The rows that may be recommended, best first; empty when none holds.

    Of those that hold and whose frames stock's reader finds: the ones about as good as stock's default (if
    there are none, the best), of these the ones that training decodes fast, and of these the smallest.

    Args:
        rows (`Iterable[Row]`): All that were tried.
        reference_psnr (`float`): Of stock's default on the same pictures, in dB.
    """
    able = [row for row in rows if row.holds and _decode(row) is not None]
    if not able:
        return []
    floor = min(reference_psnr - PSNR_LOSS_DB, max(_psnr(row) for row in able))
    good = [row for row in able if _psnr(row) >= floor]
    ceiling = DECODE_FACTOR * min(_decode(row) or 0.0 for row in good)
    fast = [row for row in good if (_decode(row) or 0.0) <= ceiling]
    first = sorted(fast, key=lambda row: (_kb(row), row.candidate.name))
    rest = sorted((row for row in good if row not in fast), key=lambda row: (_kb(row), row.candidate.name))
    last = sorted((row for row in able if row not in good), key=lambda row: (-_psnr(row), row.candidate.name))
    return [*first, *rest, *last]


def lighter(load: Load) -> dict[str, list[Load]]:
    """Lighter loads by what is lowered, each list from little to much less."""
    sizes = [_scaled(load, scale) for scale in _SCALES]
    return {
        "fps": [replace(load, fps=fps) for fps in _FPS if fps < load.fps],
        "size": [size for size in sizes if size is not None],
        "cameras": [replace(load, cameras=n) for n in range(load.cameras - 1, 0, -1)],
    }


def first_that_holds(
    loads: Sequence[Load], pixels_per_s: float, holds: Callable[[Load], bool], most: int = 4
) -> Load | None:
    """The heaviest of `loads` that holds, tried in turn.

    Args:
        loads (`Sequence[Load]`): From heavy to light.
        pixels_per_s (`float`): What the fastest candidate encodes at full speed: what needs more is passed
            over.
        holds (`Callable`): Tries one.
        most (`int`, *optional*, defaults to `4`): How many to try.
    """
    within = [load for load in loads if load.frames_per_s * load.width * load.height <= pixels_per_s]
    return next((load for load in within[:most] if holds(load)), None)


def _scaled(load: Load, scale: float) -> Load | None:
    width, height = (int(side * scale) // 2 * 2 for side in (load.width, load.height))
    return replace(load, width=width, height=height) if min(width, height) >= 64 else None


def _psnr(row: Row) -> float:
    return row.effort.psnr if row.effort is not None else 0.0


def _kb(row: Row) -> float:
    return row.effort.kb if row.effort is not None else float("inf")


def _decode(row: Row) -> float | None:
    return row.effort.decode_cpu_ms if row.effort is not None else None
