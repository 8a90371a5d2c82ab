# SPDX-License-Identifier: Apache-2.0
"""A virtual bench in a process of its own, for one worker."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from lerobot_env_koch.bench.control import BenchClient

from koch_bus_parts.canary import Canary
from koch_bus_parts.machine import prefer_bench

START_S: Final = 180  # on a busy machine
CLOCK: Final = ("--calibrated", "--hand", "clock")
"""Every position is the bench's clock: a value tells its own age. No physics runs."""

TOUCHED: Final = ("--fresh", "--hand", "auto")
"""The scripted hand moves both arms through a calibration; physics runs."""

WIRE_MODEL: Final = (
    "1 Mbit/s, 0.5 ms and 10 µs a byte for each status packet (assumed, no adapter was measured)"
)
CLOCK_TICKS: Final = 4096  # milliseconds after which the clock starts again


class VirtualBench:
    """`lerobot-ext sim` without cameras.

    Args:
        folder (`Path`): Its run directory; must be short, because a unix socket lies in it.
        options (`tuple[str, ...]`): Further arguments, `CLOCK` or `TOUCHED`.
        seed (`int`): Seed of the faults.
    """

    def __init__(self, folder: Path, options: tuple[str, ...], seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.options = options
        ready_file = folder / "ready.json"
        ready_file.unlink(missing_ok=True)
        words = ["sim", *options, "--cameras", "none", "--run-dir", str(folder), "--base-port", "0"]
        words += ["--seed", str(seed), "--ready-file", str(ready_file)]
        self._log = folder / "sim.log"
        with open(self._log, "w") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).parent / "lerobot-ext"), *words],
                env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the benchmark, which then ends its benches in order.
                start_new_session=True,
            )
        self._wait(ready_file)
        prefer_bench(self._process.pid)
        self.ready: dict[str, Any] = json.loads(ready_file.read_text())

    def _wait(self, ready_file: Path) -> None:
        end = time.monotonic() + START_S
        while not ready_file.exists():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"the bench did not start; its log says:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it in order, by force if need be."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Control:
    """The control socket of a bench, in the words of this benchmark.

    Args:
        ready (`dict`): What the bench says when it is ready.
        canary (`Canary`): Knows what the host held up besides.
    """

    def __init__(self, ready: dict[str, Any], canary: Canary) -> None:
        self._client = BenchClient(ready["control_socket"])
        self._canary = canary
        self._began_s = time.monotonic()

    def fault(self, spec: str, arm: str | None = None) -> None:
        """Inject `spec` from now on into `arm`, or both; the other arm is left as it is."""
        self._client.request("fault", spec=spec, **({"arm": arm} if arm else {}))

    def late_replies(self) -> int:
        """Replies that the simulator's own host has delayed by more than 10 ms since the bench started."""
        return int(self.status()["late_replies"])

    def delays(self) -> set[tuple[float, float]]:
        """When the simulator's own host held a bus up, as `(from, until)` on the monotonic clock."""
        logs = [bus["late_log"] for bus in self.status()["buses"].values()]
        own = {(at_s - ms / 1000, at_s) for log in logs for at_s, ms in log}
        return own | self._canary.delays(self._began_s)

    def status(self) -> dict[str, Any]:
        """All that the bench tells of itself."""
        return self._client.request("status")

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
