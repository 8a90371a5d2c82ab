# SPDX-License-Identifier: Apache-2.0
"""Parts b and c: frames paced at 30 fps, at 5 % loss and around one stall of the whole bus."""

import time
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from koch_bus_parts.canary import worst_ms
from koch_bus_parts.contestants import connected
from koch_bus_parts.frames import Frames, run_frames
from koch_bus_parts.jobs import Job, Place
from koch_bus_parts.machine import HOST_STALL_MS
from koch_bus_parts.virtual import CLOCK, Control

FPS: Final = 30.0
PACED_CASES: Final = {"drop 5 %": "drop=0.05"}
OTHERS_FRAMES: Final = 1500
"""As many are enough to see what stock and naive retries do."""

MAX_SESSIONS: Final = 60
STALL: Final = "stall=45"
STALL_MS: Final = 45.0
_SETTLING: Final = 10  # frames around the stall that count neither as before nor as after
_FRAME_MS: Final = 1000 / FPS


def paced_jobs(contestants: list[str], n_frames: int, shard: int) -> list[Job]:
    """`n_frames` frames of ours and at most `OTHERS_FRAMES` of the others, in shards side by side."""
    found = []
    for case, spec in PACED_CASES.items():
        for contestant in contestants:
            total = n_frames if contestant == "ours" else min(n_frames, OTHERS_FRAMES)
            sizes = [min(shard, total - start) for start in range(0, total, shard)]
            found += [
                Job(
                    f"paced/{case}/{contestant}/{i}",
                    CLOCK,
                    partial(paced, contestant=contestant, spec=spec, n_frames=size),
                    {"spec": spec, "n_frames": size},
                    timeout_s=size / FPS * 3 + 180,
                )
                for i, size in enumerate(sizes)
            ]
    return found


def paced(place: Place, contestant: str, spec: str, n_frames: int, adapter: str = "") -> dict[str, Any]:
    """`n_frames` frames under faults, in as many sessions as it takes; keeps each frame's figures in a file.

    Args:
        place (`Place`): Bench and folder.
        contestant (`str`): Whose driver.
        spec (`str`): Faults, from the first frame on: connecting is part d's matter.
        n_frames (`int`): How many frames to make; fewer if `MAX_SESSIONS` sessions have died before.
        adapter (`str`, *optional*): Faults from before connecting on, such as a latency timer.

    Returns:
        `dict`: `aborts` (frames each had lived for, error class and text), and where the arrays are.
    """
    parts: list[Frames] = []
    aborts: list[dict[str, Any]] = []
    summaries: list[str] = []
    left = n_frames
    with Control(place.ready, place.canary) as control:
        while left > 0 and len(parts) < MAX_SESSIONS:
            control.fault(adapter)
            with connected(contestant, place.ready) as (robot, leader):
                control.fault(",".join(filter(None, (adapter, spec))))
                frames = run_frames(robot, leader, left, FPS, control)
                control.fault(adapter)
                summaries += [str(arm.bus.counts) for arm in (robot, leader) if hasattr(arm.bus, "counts")]
            parts.append(frames)
            left -= len(frames.work_ms)
            if frames.error is not None:
                name, text = type(frames.error).__name__, str(frames.error)[:500]
                aborts.append({"n_frames": len(frames.work_ms), "error": name, "message": text})
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("work_ms", "age_ms", "stale", "wait_ms", "late")
    }
    file = place.raw.with_suffix(".npz")
    np.savez_compressed(file, **joined)
    return {"raw": file.name, "sessions": len(parts), "aborts": aborts, "bus": summaries}


def stall_jobs(contestants: list[str], n_runs: int, n_frames: int) -> list[Job]:
    """`n_runs` sessions of `n_frames` frames with one stall in the middle, for each contestant."""
    return [
        Job(
            f"stall/{STALL}/{contestant}/{index}",
            CLOCK,
            partial(stall, contestant=contestant, n_frames=n_frames),
            {"n_frames": n_frames},
            timeout_s=n_frames / FPS * 3 + 90,
        )
        for index in range(n_runs)
        for contestant in contestants
    ]


def stall(place: Place, contestant: str, n_frames: int) -> dict[str, Any]:
    """Median true age before and after the whole bus has once been silent for 45 ms.

    Returns:
        `dict`: `before_ms`, `after_ms` (None if the driver did not survive), `error`, and `host_ms`, the
        longest time for which the host held up the bytes after the stall.
    """
    half = n_frames // 2
    with Control(place.ready, place.canary) as control:
        control.fault("")
        with connected(contestant, place.ready) as (robot, leader):
            before = run_frames(robot, leader, half, FPS, control)
            control.fault(STALL)
            start_s = time.monotonic()
            after = run_frames(robot, leader, half, FPS, control)
            end_s = time.monotonic()
            control.fault("")
        host_ms = worst_ms(control.delays(), start_s, end_s)
    settled = min(_SETTLING, half // 2)
    alive = before.error is None and after.error is None
    error = before.error or after.error
    return {
        "before_ms": float(np.median(before.age_ms[settled:])) if before.error is None else None,
        "after_ms": float(np.median(after.age_ms[settled:])) if alive else None,
        # The stall shows in the frame it hit, or the injection was none.
        "worst_ms": float(after.age_ms.max()) if len(after.age_ms) else None,
        "error": type(error).__name__ if error is not None else None,
        "message": str(error)[:500] if error is not None else None,
        "n_late": int(before.late.sum() + after.late.sum()),
        "host_ms": host_ms,
    }


def percentiles(values: NDArray[np.float64]) -> dict[str, float] | None:
    """p50, p99, p99.9 and the maximum; `None` without values."""
    if values.size == 0:
        return None
    names = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
    return {name: float(np.percentile(values, percent)) for name, percent in names.items()}


def load(folder: Any, results: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of several `paced` results, one behind the other."""
    files = [np.load(folder / result["raw"]) for result in results]
    return {name: np.concatenate([file[name] for file in files]) for name in files[0].files}


def summarise(results: list[dict[str, Any]], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Figures of one case and contestant, with and without the frames that the host disturbed."""
    by_host = (arrays["late"] > 0) | (arrays["wait_ms"] > HOST_STALL_MS)
    work, age = arrays["work_ms"], arrays["age_ms"]
    aborts = [abort for result in results for abort in result["aborts"]]
    return {
        "frames": len(work),
        "sessions": sum(result["sessions"] for result in results),
        "aborts": len(aborts),
        "errors": sorted({abort["error"] for abort in aborts}),
        "frames_until_abort": [abort["n_frames"] for abort in aborts],
        "frames_hit_by_host": int(by_host.sum()),
        "late_replies": int(arrays["late"].sum()),
        "work_ms": percentiles(work),
        "work_ms_undisturbed": percentiles(work[~by_host]),
        "age_ms": percentiles(age.ravel()),
        "age_ms_undisturbed": percentiles(age[~by_host].ravel()),
        "over_frame_percent": _share(work > _FRAME_MS),
        "stale_percent": 100 * float(arrays["stale"].sum()) / age.size if age.size else None,
        "older_than_frame_percent": _share(age > _FRAME_MS),
    }


def _share(hits: NDArray[np.bool_]) -> float | None:
    return 100 * float(hits.mean()) if hits.size else None


def summarise_stalls(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the sessions of one contestant."""
    survived = [result for result in results if result["after_ms"] is not None]
    return {
        "runs": len(results),
        "aborted": len(results) - len(survived),
        "errors": sorted({result["error"] for result in results if result["error"]}),
        "before_ms": _median([r["before_ms"] for r in results if r["before_ms"] is not None]),
        "after_ms": _median([r["after_ms"] for r in survived]),
        "worst_ms": _median([r["worst_ms"] for r in survived]),
        "late_replies": sum(result["n_late"] for result in results),
        "set_aside": sum(result.get("set_aside", 0) for result in results),
    }


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None
