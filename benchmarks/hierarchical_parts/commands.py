# SPDX-License-Identifier: Apache-2.0
"""Stock console scripts as subprocesses: one thread, no Hub, a log file each, stopped with the benchmark."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Lock

POOL = "2GiB"
"""Room for all pictures of a task's demonstrations."""


class CommandError(RuntimeError):
    """A console script ended with an error, which the message shows."""


class Commands:
    """Runs console scripts from this Python's environment.

    Args:
        logs (`Path`): Where each writes its output.
        nice (`int`): How far they give way to other work, 0 to 19.
    """

    def __init__(self, logs: Path, nice: int) -> None:
        self.logs = logs
        self.nice = nice
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = Lock()
        self._stopped = False

    def run(self, name: str, words: list[str], *, pool: bool = False, append: bool = False) -> str:
        """Run a script to its end; what it logs goes to `name.log`, with `append` behind what is there.

        Returns:
            `str`: What it wrote to stdout.

        Raises:
            CommandError: It ended with an error, or the benchmark was stopped.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        path = self.logs / f"{name}.log"
        command = [*self._niceness(), str(Path(sys.executable).parent / words[0]), *words[1:]]
        written = path.with_suffix(".out")
        with path.open("ab" if append else "wb") as log, written.open("wb") as out:
            with self._lock:
                if self._stopped:
                    raise CommandError(f"{name}: stopped")
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                    env=_environment(pool),
                    start_new_session=True,
                )
                self._running.add(process)
            try:
                code = process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)
        if code:
            tail = "\n".join(path.read_text(errors="replace").splitlines()[-15:])
            raise CommandError(f"{name}: {words[0]} ended with {code}\n{tail}\nall of it: {path}")
        return written.read_text(errors="replace")

    def stop(self) -> None:
        """End what runs and start nothing more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)

    def _niceness(self) -> list[str]:
        return ["nice", "-n", str(self.nice)] if self.nice and shutil.which("nice") else []


def _environment(pool: bool) -> dict[str, str]:
    """One thread, so that jobs side by side do not disturb each other; plain logs."""
    mine = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "COLUMNS": "200"}
    return os.environ | mine | ({"LEROBOT_EXT_POOL": POOL} if pool else {})
