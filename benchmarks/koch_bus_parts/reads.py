# SPDX-License-Identifier: Apache-2.0
"""Parts e and f: a read of all positions with and without Fast Sync Read, and an FTDI's latency timer."""

import time
from functools import partial
from typing import Any, Final

import numpy as np

from koch_bus_parts.contestants import connected
from koch_bus_parts.jobs import Job, Place
from koch_bus_parts.machine import HOST_STALL_MS, CpuWait
from koch_bus_parts.paced import FPS, paced, percentiles
from koch_bus_parts.virtual import CLOCK, Control

READ_CASES: Final = {"none": "", "drop 5 %": "drop=0.05"}
MODES: Final = {"fast": True, "plain": False}
"""What takes a contestant's place here: our driver with and without `fast_sync_read`."""

TIMER_CASES: Final = {
    "timer 16 ms": ("latency_timer=16", ""),
    "timer 1 ms": ("latency_timer=1", ""),
    "timer 16 ms, drop 5 %": ("latency_timer=16", "drop=0.05"),
    "timer 1 ms, drop 5 %": ("latency_timer=1", "drop=0.05"),
}
"""What the adapter is like, and the faults on top."""

_BLOCK: Final = 50  # reads before the other mode's turn
_PAUSE_S: Final = 0.002


def read_jobs(n_reads: int) -> list[Job]:
    """`n_reads` observations of the follower in each mode, interleaved on the same bench."""
    return [
        Job(
            f"reads/{case}/both/0",
            CLOCK,
            partial(read_both_ways, spec=spec, n_reads=n_reads),
            {"spec": spec, "n_reads": n_reads},
            timeout_s=120 + n_reads,
        )
        for case, spec in READ_CASES.items()
    ]


def read_both_ways(place: Place, spec: str, n_reads: int) -> dict[str, Any]:
    """How long `get_observation` without cameras takes, in milliseconds, by mode, in turns.

    Reads during which the client waited for a processor are counted, and left out of the percentiles.
    """
    trips: dict[str, list[float]] = {mode: [] for mode in MODES}
    disturbed = dict.fromkeys(MODES, 0)
    cpu = CpuWait()
    with Control(place.ready, place.canary) as control:
        late_before = control.late_replies()
        for block in range(0, n_reads, _BLOCK):
            for mode, fast in MODES.items():
                control.fault("")
                with connected("ours", place.ready, fast_sync_read=fast) as (robot, _):
                    control.fault(spec)
                    for _ in range(min(_BLOCK, n_reads - block)):
                        waited, start = cpu.milliseconds(), time.monotonic()
                        robot.get_observation()
                        trip_ms = 1000 * (time.monotonic() - start)
                        if cpu.milliseconds() - waited > HOST_STALL_MS:
                            disturbed[mode] += 1
                        else:
                            trips[mode].append(trip_ms)
                        time.sleep(_PAUSE_S)
                    control.fault("")
        n_late = control.late_replies() - late_before
    cpu.close()
    return {
        "round_trip_ms": {mode: percentiles(np.array(times)) for mode, times in trips.items()},
        "reads": {mode: len(times) for mode, times in trips.items()},
        "disturbed": disturbed,
        "n_late": n_late,
    }


def timer_jobs(cases: list[str], contestants: list[str], n_frames: int) -> list[Job]:
    """`n_frames` paced frames behind a latency timer, for each case and contestant."""
    return [
        Job(
            f"timer/{case}/{contestant}/0",
            CLOCK,
            partial(paced, contestant=contestant, spec=spec, n_frames=n_frames, adapter=adapter),
            {"adapter": adapter, "spec": spec, "n_frames": n_frames},
            timeout_s=n_frames / FPS * 3 + 180,
        )
        for case, (adapter, spec) in TIMER_CASES.items()
        if case in cases
        for contestant in contestants
    ]
