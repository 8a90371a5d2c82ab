# SPDX-License-Identifier: Apache-2.0
"""Part a: whole recordings through the stock `lerobot-record`, with its own argv and its own `main()`.

The faults begin with the first frame (connecting is part d's matter), so that "frames until abort" means
something for a driver that would not even connect. Two things of LeRobot are wrapped for that, and change
nothing: `record_loop`, to know when it begins, and `LeRobotDataset.add_frame`, to count frames.
"""

import json
import re
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from koch_bus_parts.canary import worst_ms
from koch_bus_parts.contestants import arguments
from koch_bus_parts.jobs import Job, Place
from koch_bus_parts.virtual import CLOCK, Control

FPS: Final = 30
CASES: Final = {
    "none": "",
    "drop 0.1 %": "drop=0.001",
    "drop 1 %": "drop=0.01",
    "drop 5 %": "drop=0.05",
    "CRC 1 %": "crc=0.01",
    "CRC 5 %": "crc=0.05",
    "40 ms late 1 %": "late_ms=40@0.01",
    "bursty 5 %": "burst=0.05@4",
    "servo silent 200 ms": "silent=3:200ms@5s",
}
_FOLLOWER_ONLY: Final = "silent"
_SLOW: Final = re.compile(r"Record loop is running slower")


def jobs(cases: list[str], contestants: list[str], n_runs: int, episode_s: float) -> list[Job]:
    """`n_runs` recordings of `episode_s` seconds of every case with every contestant, interleaved."""
    return [
        Job(
            f"cli/{case}/{contestant}/{index}",
            CLOCK,
            partial(record_once, contestant=contestant, spec=CASES[case], episode_s=episode_s),
            {"spec": CASES[case], "episode_s": episode_s},
            timeout_s=episode_s * 3 + 90,
        )
        for index in range(n_runs)
        for case in cases
        for contestant in contestants
    ]


def record_once(place: Place, contestant: str, spec: str, episode_s: float) -> dict[str, Any]:
    """Record one episode and say how it ended.

    Args:
        place (`Place`): Bench and folder.
        contestant (`str`): Whose driver.
        spec (`str`): The faults.
        episode_s (`float`): Length of the episode in seconds.

    Returns:
        `dict`: `aborted`, `phase` and `error` of an abort, `n_frames` until then, `n_saved_episodes`,
        `n_saved_frames`, `n_slow` frames that LeRobot itself called slow, `n_late` replies delayed by the
        simulator's host, `host_ms` the longest time for which the host held up the bytes.
    """
    from lerobot.scripts import lerobot_record

    root = place.folder / "dataset"
    shutil.rmtree(root, ignore_errors=True)
    arm = "follower" if spec.startswith(_FOLLOWER_ONLY) else None
    with Control(place.ready, place.canary) as control:
        control.fault("")
        watch = _watch(lerobot_record, lambda: control.fault(spec, arm))
        late_before, start_s = control.late_replies(), time.monotonic()
        sys.argv = ["lerobot-record", *arguments(contestant, place.ready), *_dataset_words(root, episode_s)]
        error = _run(lerobot_record.main)
        end_s = time.monotonic()
        control.fault("")
        n_late = control.late_replies() - late_before
        host_ms = worst_ms(control.delays(), start_s, end_s)
    sys.stderr.flush()
    n_episodes, n_saved_frames = _saved(root)
    shutil.rmtree(root, ignore_errors=True)
    return {
        "aborted": error is not None,
        "phase": "recording" if watch["loops"] else "connecting",
        "error": type(error).__name__ if error is not None else None,
        "message": str(error)[:500] if error is not None else None,
        "n_frames": watch["frames"],
        "n_saved_episodes": n_episodes,
        "n_saved_frames": n_saved_frames,
        "n_slow": len(_SLOW.findall((place.folder / "log.txt").read_text(errors="replace"))),
        "n_late": n_late,
        "host_ms": host_ms,
    }


def _dataset_words(root: Path, episode_s: float) -> list[str]:
    return [
        "--dataset.repo_id=bench/koch_bus",
        f"--dataset.root={root}",
        "--dataset.no_stamp=true",
        "--dataset.single_task=Nothing.",
        f"--dataset.fps={FPS}",
        "--dataset.num_episodes=1",
        f"--dataset.episode_time_s={episode_s:g}",
        "--dataset.reset_time_s=0",
        "--dataset.push_to_hub=false",
        "--play_sounds=false",
    ]


def _watch(lerobot_record: Any, begin: Any) -> dict[str, int]:
    """Call `begin` when recording begins, and count loops and frames."""
    counts = {"loops": 0, "frames": 0}
    record_loop, add_frame = lerobot_record.record_loop, lerobot_record.LeRobotDataset.add_frame

    def watched_loop(*args: Any, **kwargs: Any) -> Any:
        if counts["loops"] == 0:
            begin()
        counts["loops"] += 1
        return record_loop(*args, **kwargs)

    def counted_add_frame(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = add_frame(self, *args, **kwargs)
        counts["frames"] += 1
        return result

    lerobot_record.record_loop = watched_loop
    lerobot_record.LeRobotDataset.add_frame = counted_add_frame
    return counts


def _run(main: Any) -> BaseException | None:
    """What `main` ended with; `None` if in order."""
    try:
        main()
    except SystemExit as end:
        return end if end.code else None
    except Exception as error:  # noqa: BLE001 - whatever ends a recording is the result
        return error
    return None


def _saved(root: Path) -> tuple[int, int]:
    """Episodes and frames that are whole: in `info.json`, and in as many readable rows."""
    import pyarrow.parquet as pq

    try:
        info = json.loads((root / "meta" / "info.json").read_text())
        rows = [pq.read_metadata(file).num_rows for file in sorted(root.glob("data/**/*.parquet"))]
    except (OSError, ValueError):  # pyarrow's errors are among them
        return 0, 0
    if sum(rows) != info["total_frames"]:
        return 0, 0
    return info["total_episodes"], info["total_frames"]


def summarise(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of one case and contestant."""
    aborted = [result for result in results if result["aborted"]]
    frames = [result["n_frames"] for result in aborted if result["phase"] == "recording"]
    errors = sorted({result["error"] for result in aborted})
    n_frames = sum(result["n_frames"] for result in results)
    return {
        "runs": len(results),
        "aborted": len(aborted),
        "frames_until_abort": frames,
        "errors": errors,
        "saved_episodes": sum(result["n_saved_episodes"] for result in results),
        "frames": n_frames,
        "slow_percent": 100 * sum(result["n_slow"] for result in results) / n_frames if n_frames else None,
        "late_replies": sum(result["n_late"] for result in results),
        "set_aside": sum(result.get("set_aside", 0) for result in results),
    }
