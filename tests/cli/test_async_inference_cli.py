# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext policy-server` and `robot-client` as subprocesses: the virtual arm, 100 ms away."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import stock_cli
from lerobot_env_koch.bench.command import camera_argument
from lerobot_env_koch.bench.control import BenchClient
from lerobot_env_koch.units import rad_to_units
from serving_checkpoints import save_act
from slow_proxy import SlowProxy
from stock_cli import BIN, PATIENCE_MS, START_S, environment, sim

pytestmark = pytest.mark.slow

TARGET = [20.0, -10.0, -60.0, 80.0, 30.0, 50.0]
"""Where the policy wants the joints, in LeRobot's units: away from the start, above cube and table."""

SECRET = "a secret of more than sixteen characters".replace(" ", "-")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("lerobot_home")


@pytest.fixture(scope="module")
def bench(home: Path) -> Iterator[dict]:
    with sim(home, "--calibrated", "--cameras", "top") as started:
        yield started


@pytest.fixture(scope="module")
def token(home: Path) -> Path:
    path = home / "token"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def checkpoint(home: Path) -> Path:
    return save_act(home / "checkpoints" / "reach", TARGET, camera=(96, 96), chunk_size=100)


def policy_server(
    home: Path, token: Path, port: int = 0
) -> AbstractContextManager[tuple[subprocess.Popen, dict]]:
    """The server, and what it says when it is ready."""
    words = ["--allow", str(home / "checkpoints"), "--token-file", str(token), "--port", str(port)]
    return stock_cli.server(home, "policy-server", *words, "--lease-s", "60", "--json")


@pytest.fixture(scope="module")
def server(home: Path, token: Path, checkpoint: Path) -> Iterator[tuple[subprocess.Popen, dict]]:
    """One server for all tests; the last one kills it."""
    with policy_server(home, token) as running:
        yield running


@pytest.fixture
def client(home, bench, token, checkpoint, tmp_path):
    """Starts a client of the virtual arm."""

    def start(address: str, *words: str) -> subprocess.Popen:
        arm = {"type": "koch_follower", "port": bench["ports"]["follower"], "id": "sim_follower"}
        robot = [f"--robot.{name}={value}" for name, value in {**arm, "give_up_ms": PATIENCE_MS}.items()]
        common = ["--server", address, "--policy", "reach", "--token-file", str(token), "--give-up-s", "150"]
        return subprocess.Popen(
            [
                str(BIN / "lerobot-ext"),
                "robot-client",
                *robot,
                f"--robot.cameras={camera_argument(bench)}",
                *common,
                "--task=Reach.",
                "--json",
                *words,
            ],
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def executed(trace: Path) -> list[int]:
    """Numbers of the executed actions so far; a line that is being written is left out."""
    lines = trace.read_text().splitlines() if trace.exists() else []
    return [json.loads(line)["action"] for line in lines if line.endswith("}}")]


def rise(numbers: list[int]) -> bool:
    return all(later > earlier for earlier, later in pairwise(numbers))


def joints(bench: dict) -> np.ndarray:
    """Where the arm is, in LeRobot's units."""
    with BenchClient(bench["control_socket"]) as control:
        return rad_to_units(np.array(control.request("status")["follower_rad"]))


def torque(bench: dict) -> list[int]:
    with BenchClient(bench["control_socket"]) as control:
        return control.request("torque")["torque"]["follower"]


def test_the_virtual_arm_follows_the_policy_through_a_slow_network(bench, server, client, tmp_path):
    trace = tmp_path / "trace.jsonl"
    before = joints(bench)
    with SlowProxy(server[1]["port"], delay_s=0.1) as network:
        process = client(network.address, "--duration=8", f"--trace={trace}", "--image_quality=80")
        seen = []
        while process.poll() is None:
            seen.append(joints(bench))
            time.sleep(0.1)
        shown, errors = process.communicate(timeout=START_S)
    assert process.returncode == 0, errors
    summary = json.loads(shown.splitlines()[-1])
    assert summary["round_trip"]["p50_ms"] > 200  # the delay was there, both ways
    assert summary["held_ticks"] == 0  # every frame got an action
    assert summary["actions"] == summary["ticks"] > 100
    assert summary["late_actions"] > 0  # the first of a chunk are over when it arrives
    numbers = executed(trace)
    assert len(numbers) == summary["actions"]
    assert rise(numbers)
    assert np.abs(before - TARGET).max() > 15, "the arm was there already"
    # The released arm sinks, so the end of the run is what counts, not where it is now.
    assert min(np.abs(where - TARGET).max() for where in seen) < 6, seen[-10:]
    assert torque(bench) == [0] * 6  # released in order


def test_a_wrong_token_ends_in_one_line_and_the_arm_stays_limp(bench, server, client, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("another secret of sixteen".replace(" ", "-"))
    wrong.chmod(0o600)
    process = client(server[1]["address"], f"--token-file={wrong}")
    _, errors = process.communicate(timeout=START_S)
    assert process.returncode == 2
    assert "no or wrong token" in errors
    assert "Traceback" not in errors
    assert SECRET not in errors
    assert torque(bench) == [0] * 6


def test_after_kill_9_of_the_server_no_action_is_repeated(home, bench, token, server, client, tmp_path):
    trace = tmp_path / "trace.jsonl"

    def wait_for(condition):
        end = time.monotonic() + START_S
        while not condition():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "it did not come to pass"
            time.sleep(0.1)

    killed, ready = server
    process = client(ready["address"], f"--trace={trace}")
    wait_for(lambda: len(executed(trace)) > 30)
    killed.kill()
    killed.wait(30)
    (home / "policy-server.json").unlink()  # what a server that is killed leaves behind
    before = len(executed(trace))
    with policy_server(home, token, ready["port"]):
        wait_for(lambda: len(executed(trace)) > before + 130)  # more than one chunk: the new server's
        process.send_signal(signal.SIGTERM)
        shown, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    summary = json.loads(shown.splitlines()[-1])
    numbers = executed(trace)
    assert rise(numbers)
    assert summary["actions"] == len(numbers)
    assert summary["reconnects"] == 1
    assert "lost" in errors
    assert "again" in errors
    assert torque(bench) == [0] * 6
