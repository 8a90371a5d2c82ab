# SPDX-License-Identifier: Apache-2.0
"""Runs one command of the quickstart: shows it, logs it, follows its progress, and explains a failure."""

import os
import re
import shlex
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lerobot_ext.quickstart.settings import executable
from lerobot_ext.quickstart.signals import started_whole

# tqdm ends its counter with "[elapsed<remaining"; "12/50" in any other text is not progress.
_TQDM = re.compile(rb"(\d+)/(\d+) \[")
_TAIL_LINES = 15


class StepError(Exception):
    """A step of the quickstart failed: the command, the end of its log, and what to try."""

    def __init__(self, command: str, reason: str, log: Path | None, remedy: str) -> None:
        super().__init__(reason)
        self.command = command
        self.log = log
        self.remedy = remedy


@dataclass
class Runner:
    """Runs commands with a common environment and a common look.

    Args:
        logs (`Path`): Folder of the log files.
        environment (`Mapping`): Added to the caller's environment for every command.
        console (`Console`): Where commands and progress are shown.
    """

    logs: Path
    environment: Mapping[str, str]
    console: Console
    transcript: list[tuple[str, Sequence[str]]] = field(default_factory=list)

    def show(self, name: str, argv: Sequence[str]) -> str:
        """Print a step's command so that it can be copied, and keep it for `commands.sh`."""
        command = shlex.join(argv)
        self.transcript.append((name, argv))
        self.console.print(f"  [dim]$[/dim] {escape(command)}", soft_wrap=True, highlight=False)
        return command

    def process_environment(self) -> dict[str, str]:
        """The caller's environment and the run's; bytecode is on, or each start is slow."""
        env = {**os.environ, **self.environment}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        return env

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        remedy: str,
        expected_s: float,
        timeout_s: float,
        meanwhile: Callable[[], None] | None = None,
    ) -> Path:
        """Run one command to its end.

        Args:
            name (`str`): Names the log file.
            argv (`Sequence[str]`): The command; its first word is a console script.
            remedy (`str`): What to try when it fails.
            expected_s (`float`): Usual duration, for the bar of a command that shows no progress of its own.
            timeout_s (`float`): The command is ended after this long.
            meanwhile (`Callable[[], None]`, *optional*): Called again and again while the command runs.

        Returns:
            The log file.

        Raises:
            StepError: If the command exits with an error or runs out of time.
        """
        command = self.show(name, argv)
        log = self.logs / f"{name}.log"
        with log.open("wb") as sink, self._progress() as progress:
            process = follower = None
            try:
                with started_whole():
                    process = subprocess.Popen(
                        [executable(argv[0]), *argv[1:]],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        env=self.process_environment(),
                        start_new_session=True,
                    )
                    follower = _Follower(process, sink)
                    follower.start()
                self._wait(process, progress, name, follower, expected_s, timeout_s, meanwhile)
            except subprocess.TimeoutExpired:
                raise StepError(command, f"no end after {timeout_s:.0f} s", log, remedy) from None
            finally:
                if process is not None:
                    end_process(process)
                if follower is not None:
                    follower.join(timeout=5)
        if process.returncode != 0:
            raise StepError(command, f"exit code {process.returncode}", log, remedy)
        return log

    def _wait(
        self,
        process: "subprocess.Popen[bytes]",
        progress: Progress,
        name: str,
        follower: "_Follower",
        expected_s: float,
        timeout_s: float,
        meanwhile: Callable[[], None] | None,
    ) -> None:
        task = progress.add_task(name, total=1.0)
        started = time.monotonic()
        while process.poll() is None:
            elapsed = time.monotonic() - started
            if elapsed > timeout_s:
                raise subprocess.TimeoutExpired(name, timeout_s)
            done = follower.fraction if follower.fraction is not None else min(0.98, elapsed / expected_s)
            progress.update(task, completed=done)
            if meanwhile is not None:
                meanwhile()
            time.sleep(0.1)
        progress.update(task, completed=1.0)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("   "),
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=40),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )


class _Follower(threading.Thread):
    """Copies a process's output to its log and picks the last tqdm counter out of it."""

    def __init__(self, process: "subprocess.Popen[bytes]", sink: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.fraction: float | None = None
        self._stdout = process.stdout
        self._sink = sink

    def run(self) -> None:
        assert self._stdout is not None
        while chunk := self._stdout.read1():  # type: ignore[attr-defined]
            self._sink.write(chunk)
            self._sink.flush()
            for match in _TQDM.finditer(chunk):
                done, total = int(match[1]), int(match[2])
                if total > 0:
                    self.fraction = min(1.0, done / total)


def end_process(process: "subprocess.Popen[bytes]", grace_s: float = 5.0) -> None:
    """Ask a process that we started to end, and make it end if it does not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(log: Path, lines: int = _TAIL_LINES) -> list[str]:
    """The last lines of a log, progress bars left out."""
    kept: deque[str] = deque(maxlen=lines)
    for raw in log.read_text(errors="replace").splitlines():
        line = raw.split("\r")[-1].rstrip()
        if line and not re.search(r"\d+%\|", line):
            kept.append(line)
    return list(kept)


def wait_until(ready: Callable[[], bool], timeout_s: float, poll_s: float = 0.05) -> bool:
    """Poll `ready` until it holds or time is up; says whether it held."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if ready():
            return True
        time.sleep(poll_s)
    return ready()
