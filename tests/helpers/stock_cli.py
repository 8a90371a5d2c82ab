# SPDX-License-Identifier: Apache-2.0
"""Console scripts as subprocesses, as a user runs them, and a virtual bench of its own process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pexpect
import warm_start
from lerobot_env_koch.bench.hand import SWEEP_S

BIN: Final = Path(sys.executable).parent
START_S: Final = 150  # LeRobot's CLIs take ten seconds and more to start on a busy machine
PATIENCE_MS: Final = 3000
"""`give_up_ms`: a shared test machine may set the bench aside for half a second; no session must end so."""


def environment(home: Path) -> dict[str, str]:
    """LeRobot's files in `home`, no Hub."""
    drop = {"HF_LEROBOT_CALIBRATION", "PYTHONDONTWRITEBYTECODE"}
    kept = {key: value for key, value in os.environ.items() if key not in drop}
    mine = {"HF_LEROBOT_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return kept | mine


def run(
    home: Path, *words: str, timeout: float = START_S, real: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a console script to its end, with nobody at the keyboard; `real`: not from a warm start."""
    return warm_start.run([BIN / words[0], *words[1:]], env=environment(home), timeout=timeout, real=real)


@contextmanager
def server(home: Path, *words: str) -> Iterator[tuple[subprocess.Popen, dict]]:
    """A command of ours that says when it is ready, and what it says; its log is in `home`.

    It is asked to stop at the end, unless it is gone by then, and has to do so in peace.
    """
    ready_file, log_file = home / f"{words[0]}.json", home / f"{words[0]}.log"
    with open(log_file, "a") as log:
        process = subprocess.Popen(
            [str(BIN / "lerobot-ext"), *words, "--ready-file", str(ready_file)],
            env=environment(home),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + START_S
        while not ready_file.exists():
            assert process.poll() is None, log_file.read_text()
            assert time.monotonic() < end, f"{words[0]} did not get ready"
            time.sleep(0.1)
        yield process, json.loads(ready_file.read_text())
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0, log_file.read_text()
            assert not ready_file.exists()
        ready_file.unlink(missing_ok=True)


@contextmanager
def sim(home: Path, *words: str) -> Iterator[dict]:
    """`lerobot-ext sim` with its run directory in `home`; what it says when it is ready."""
    words = ("--fresh", "--run-dir", str(home / "sim"), "--base-port", "0", *words)
    with server(home, "sim", *words) as (process, ready):
        yield ready
    assert process.returncode == 0


def calibrate(home: Path, words: list[str]) -> str:
    """Press ENTER at both prompts of `lerobot-calibrate`, at the second after the hand has swept the joints.

    A calibration file that is offered is a failure: the arm is to be calibrated anew.

    Returns:
        `str`: What it said before the first prompt.
    """
    child = pexpect.spawn(
        str(BIN / "lerobot-calibrate"), words, env=environment(home), encoding="utf-8", timeout=START_S
    )
    asked = child.expect(["use provided calibration", "middle of its range of motion"])
    said = str(child.before)
    assert asked == 1, said
    child.sendline("")
    child.expect("Press ENTER to stop")
    child.expect(pexpect.TIMEOUT, timeout=SWEEP_S + 0.8)  # reads on, so that the child never blocks
    child.sendline("")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    return said
