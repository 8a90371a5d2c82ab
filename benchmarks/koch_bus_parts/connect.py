# SPDX-License-Identifier: Apache-2.0
"""Part d: connecting both arms, and `lerobot-calibrate` through a terminal, on a lossy bus."""

import os
import pty
import re
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import pexpect
from pexpect.fdpexpect import fdspawn

from koch_bus_parts.contestants import BETWEEN_SESSIONS_S, CONTESTANTS, make_arms, release
from koch_bus_parts.forked import end_with, reopen_streams
from koch_bus_parts.jobs import Job, Place
from koch_bus_parts.virtual import CLOCK, TOUCHED, Control

CASES: Final = {"none": "", "drop 0.1 %": "drop=0.001", "drop 1 %": "drop=0.01", "drop 5 %": "drop=0.05"}
CALIBRATE_CASE: Final = "drop 5 %"
PROMPT_S: Final = 60.0
SWEEP_S: Final = 30.0
ARMS: Final = {"follower": ("robot", 0), "leader": ("teleop", 1)}
"""Role of each arm on the command line, and its place in `CONTESTANTS`."""


def connect_jobs(cases: list[str], contestants: list[str], n_tries: int) -> list[Job]:
    """`n_tries` times connecting both arms, for each case and contestant."""
    return [
        Job(
            f"connect/{case}/{contestant}/0",
            CLOCK,
            partial(connect, contestant=contestant, spec=spec, n_tries=n_tries),
            {"spec": spec, "n_tries": n_tries},
            timeout_s=60 + 10 * n_tries,
        )
        for case, spec in CASES.items()
        if case in cases
        for contestant in contestants
    ]


def connect(place: Place, contestant: str, spec: str, n_tries: int) -> dict[str, Any]:
    """Connect and configure leader and follower, as `lerobot-record` does; no prompt may come up.

    Returns:
        `dict`: `seconds` of each try that succeeded, error class and text of the others.
    """
    times_s: list[float] = []
    errors: list[dict[str, str]] = []
    with Control(place.ready, place.canary) as control:
        late_before = control.late_replies()
        control.fault(spec)
        for _ in range(n_tries):
            time.sleep(BETWEEN_SESSIONS_S)
            robot, leader = make_arms(contestant, place.ready)
            start = time.monotonic()
            try:
                leader.connect()
                robot.connect()
                times_s.append(time.monotonic() - start)
            except Exception as error:  # noqa: BLE001 - whatever keeps an arm from connecting is the result
                errors.append({"error": type(error).__name__, "message": str(error)[:500]})
            for arm in (robot, leader):
                release(arm)
        control.fault("")
        n_late = control.late_replies() - late_before
    return {"times_s": times_s, "errors": errors, "n_late": n_late}


def calibrate_jobs(contestants: list[str], n_tries: int, per_job: int) -> list[Job]:
    """`n_tries` times stock `lerobot-calibrate` for each contestant, half of them for each arm."""
    found = []
    for contestant in contestants:
        for arm, count in {"follower": n_tries - n_tries // 2, "leader": n_tries // 2}.items():
            for start in range(0, count, per_job):
                numbers = range(start, min(start + per_job, count))
                found.append(
                    Job(
                        f"calibrate/{arm}, {CALIBRATE_CASE}/{contestant}/{start}",
                        TOUCHED,
                        partial(calibrate, contestant=contestant, arm=arm, numbers=numbers),
                        {"n_tries": len(numbers)},
                        timeout_s=60 + len(numbers) * 60,
                    )
                )
    return found


def calibrate(place: Place, contestant: str, arm: str, numbers: range) -> dict[str, Any]:
    """Run stock `lerobot-calibrate` in a terminal, press ENTER when it and the bench's hand say so.

    Returns:
        `dict`: `exits` (0 is success), seconds, last lines of what failed, and `spread`: the greatest
        difference between two tries in one joint's offset or limits, in ticks.
    """
    exits, times_s, tails, calibrations = [], [], [], []
    role, place_in_pair = ARMS[arm]
    type_ = CONTESTANTS[contestant][place_in_pair]
    with Control(place.ready, place.canary) as control:
        late_before = control.late_replies()
        for number in numbers:
            id_ = f"try_{arm}_{number}"
            words = [
                f"--{role}.type={type_}",
                f"--{role}.port={place.ready['ports'][arm]}",
                f"--{role}.id={id_}",
            ]
            file = _calibration_file(arm, id_)
            file.unlink(missing_ok=True)  # else LeRobot offers to keep it
            control.fault(CASES[CALIBRATE_CASE], arm)
            start = time.monotonic()
            code, text = _calibrate_in_terminal(["lerobot-calibrate", *words], arm, control)
            control.fault("", arm)
            times_s.append(time.monotonic() - start)
            print(text)
            exits.append(code)
            if code == 0 and file.exists():
                calibrations.append(file.read_text())
                file.unlink()
            else:
                exits[-1] = exits[-1] or "no file"
                tails.append(text[-500:])
        n_late = control.late_replies() - late_before
    return {
        "exits": exits,
        "times_s": times_s,
        "tails": tails,
        "spread": spread(calibrations),
        "n_late": n_late,
    }


def _calibration_file(arm: str, id_: str) -> Path:
    from lerobot.utils.constants import HF_LEROBOT_CALIBRATION

    folder = "robots/koch_follower" if arm == "follower" else "teleoperators/koch_leader"
    return Path(HF_LEROBOT_CALIBRATION) / folder / f"{id_}.json"


def _calibrate_in_terminal(argv: list[str], arm: str, control: Control) -> tuple[Any, str]:
    """Exit code (or what went wrong) and output of stock calibration in a new terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        _become(argv)
    child = fdspawn(terminal, encoding="utf-8", codec_errors="replace", timeout=PROMPT_S)
    seen = ""
    try:
        for prompt, phase in (("middle of its range of motion", "middle"), ("Press ENTER to stop", "swept")):
            child.expect(prompt)
            seen += child.before + child.after
            _read_until_phase(child, control, arm, phase)
            child.send("\n")
        child.expect(pexpect.EOF)
        seen += child.before or ""
    except (pexpect.EOF, pexpect.TIMEOUT, OSError) as failure:
        seen += f"{child.before or ''}\n[{type(failure).__name__}]"
        if not isinstance(failure, pexpect.EOF):
            os.kill(pid, 9)
    _, status = os.waitpid(pid, 0)
    child.close()
    return os.waitstatus_to_exitcode(status), re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", seen)


def _become(argv: list[str]) -> None:
    """Be the stock script in this forked process, and end."""
    reopen_streams()
    sys.argv = argv
    from lerobot.scripts.lerobot_calibrate import main

    end_with(main)


def _read_until_phase(child: Any, control: Control, arm: str, phase: str) -> None:
    """Read on, so that the script never blocks, until the bench's hand has reached `phase`."""
    end = time.monotonic() + SWEEP_S
    while time.monotonic() < end:
        child.expect(pexpect.TIMEOUT, timeout=0.1)  # keeps what it reads for the next prompt
        if control.status()["calibration"][arm] == phase:
            break


def spread(calibrations: list[str]) -> int | None:
    """Greatest difference between two calibrations in any joint's offset or limits, in ticks."""
    import json

    if not calibrations:
        return None
    tables = [json.loads(text) for text in calibrations]
    fields = ("homing_offset", "range_min", "range_max")
    columns = [[table[joint][field] for table in tables] for joint in tables[0] for field in fields]
    return max(max(column) - min(column) for column in columns)


def summarise_connects(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of one case and contestant."""
    times_s = sorted(t for result in results for t in result["times_s"])
    errors = [error["error"] for result in results for error in result["errors"]]
    return {
        "tries": len(times_s) + len(errors),
        "connected": len(times_s),
        "median_ms": 1000 * times_s[len(times_s) // 2] if times_s else None,
        "max_ms": 1000 * times_s[-1] if times_s else None,
        "errors": sorted(set(errors)),
        "late_replies": sum(result["n_late"] for result in results),
    }


def summarise_calibrations(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of one arm and contestant."""
    exits = [code for result in results for code in result["exits"]]
    spreads = [result["spread"] for result in results if result["spread"] is not None]
    return {
        "tries": len(exits),
        "succeeded": exits.count(0),
        "median_s": sorted(t for result in results for t in result["times_s"])[len(exits) // 2],
        "spread_ticks": max(spreads, default=None),
        "late_replies": sum(result["n_late"] for result in results),
    }
