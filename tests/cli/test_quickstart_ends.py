# SPDX-License-Identifier: Apache-2.0
"""A quickstart that is ended from outside, by `kill` or a closed terminal, leaves nothing running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
]
START_S = 150


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(holds, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.1)
    return holds()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_what_it_started_ends_with_it(tmp_path, number):
    run = tmp_path / "run"
    words = [Path(sys.executable).parent / "lerobot-ext", "quickstart", "--fast", "--workdir", run]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
    started: list[int] = []
    try:
        calibration = run / "logs" / "calibrate_follower.log"
        assert wait_until(calibration.exists, START_S), (tmp_path / "log").read_text()
        assert wait_until(lambda: len(children(process.pid)) >= 2, 30)
        started = children(process.pid)  # the bench and the command of the step
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert wait_until(lambda: not any(map(runs, started)), 5)
    finally:
        if process.poll() is None:
            process.kill()
        for one in filter(runs, started):
            os.kill(one, signal.SIGKILL)
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said, said
    assert not (run / "bench" / "ready.json").exists()
