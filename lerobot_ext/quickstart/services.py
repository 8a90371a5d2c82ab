# SPDX-License-Identifier: Apache-2.0
"""The two services a quickstart needs beside it: the virtual bench, and a Hub on loopback."""

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot_ext.quickstart.runner import Runner, StepError, end_process, wait_until
from lerobot_ext.quickstart.script import BENCH
from lerobot_ext.quickstart.settings import executable
from lerobot_ext.quickstart.signals import started_whole

_READY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class BenchInfo:
    """Where the virtual bench can be reached.

    Args:
        follower_port (`str`), leader_port (`str`): The arms' serial ports (stable links to pseudo-terminals).
        cameras (`dict[str, dict]`): LeRobot's configuration of each published camera.
        tracker_address (`str`): Address of the object tracker.
        control_socket (`str`): Unix socket for status and commands.
    """

    follower_port: str
    leader_port: str
    cameras: dict[str, dict[str, Any]]
    tracker_address: str
    control_socket: str

    @classmethod
    def read(cls, ready_file: Path) -> "BenchInfo":
        """Read what `lerobot-ext sim --ready-file` wrote."""
        ready = json.loads(ready_file.read_text())
        return cls(
            follower_port=ready["ports"]["follower"],
            leader_port=ready["ports"]["leader"],
            cameras=ready["cameras"],
            tracker_address=ready["tracker"]["address"],
            control_socket=ready["control_socket"],
        )


class BenchControl:
    """Talks to the bench's control socket: one JSON object a line each way."""

    def __init__(self, path: str, timeout_s: float = 5.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send one command and return its answer.

        Raises:
            ConnectionError: If the bench does not answer, or answers with an error.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(self._timeout_s)
            link.connect(self._path)
            link.sendall(json.dumps({"cmd": command, **arguments}).encode() + b"\n")
            with link.makefile("rb") as stream:
                answer: dict[str, Any] = json.loads(stream.readline())
        if not answer.get("ok", True):
            raise ConnectionError(f"virtual bench refused {command!r}: {answer.get('error')}")
        return answer


def free_ports(count: int) -> int:
    """The first of so many TCP ports in a row that nobody uses, so that the bench can be started there again.

    Raises:
        OSError: There are none.
    """
    for _ in range(100):
        with ExitStack() as stack, suppress(OSError, OverflowError):
            first = 0
            for number in range(count):
                one = stack.enter_context(socket.socket())
                one.bind(("127.0.0.1", first + number if first else 0))
                first = first or one.getsockname()[1]
            return first
    raise OSError(f"no {count} free TCP ports in a row")


@contextmanager
def virtual_bench(runner: Runner, argv: list[str], run_dir: Path) -> Iterator[tuple[BenchInfo, BenchControl]]:
    """Run the virtual bench while the block runs.

    Raises:
        StepError: If it is not ready within a minute.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    ready = run_dir / "ready.json"
    ready.unlink(missing_ok=True)
    argv = [*argv, f"--ready-file={ready}"]
    command = runner.show(BENCH, argv)
    log = runner.logs / "bench.log"
    with log.open("wb") as sink:
        process = None
        try:
            with started_whole():
                process = subprocess.Popen(
                    [executable(argv[0]), *argv[1:]],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env=runner.process_environment(),
                    start_new_session=True,
                )
            up = wait_until(lambda: ready.exists() or process.poll() is not None, _READY_TIMEOUT_S)
            if not up or not ready.exists():
                raise StepError(
                    command,
                    "the virtual bench did not come up",
                    log,
                    "It needs pseudo-terminals (Linux or macOS) and mujoco; see `lerobot-ext sim --help`.",
                )
            info = BenchInfo.read(ready)
            yield info, BenchControl(info.control_socket)
        finally:
            if process is not None:
                end_process(process)


@contextmanager
def loopback_hub(root: Path, client_home: Path) -> Iterator[dict[str, str]]:
    """Run a Hub on loopback while the block runs; yields the environment its clients need."""
    from lerobot_ext.testing.hub import HubServer, client_environment

    root.mkdir(parents=True, exist_ok=True)
    with HubServer(root) as server:
        yield client_environment(server.url, client_home)
