# SPDX-License-Identifier: Apache-2.0
"""How recordings end that are not allowed to finish, by the stock CLIs against `lerobot-ext sim`.

| end | dataset | exit status | torque |
|---|---|---|---|
| SIGTERM, SIGHUP | the two whole episodes | 143, 129 | off |
| SIGKILL | the same, after `lerobot-ext repair`; then `--resume=true` | 137 | stays on: the arm holds |
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot_env_koch.bench.command import camera_argument
from lerobot_env_koch.bench.control import BenchClient

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
START_S = 150  # LeRobot's CLIs take ten seconds and more to start on a busy machine
TWO_EPISODES = "Recording episode 2"
# A busy test machine may set the bench aside for a while; that must not end a session here.
PATIENCE = {"num_read_retries": 10, "num_write_retries": 10, "give_up_ms": 3000}


def environment(home: Path) -> dict[str, str]:
    drop = {"HF_LEROBOT_CALIBRATION", "PYTHONDONTWRITEBYTECODE"}
    kept = {key: value for key, value in os.environ.items() if key not in drop}
    mine = {"HF_LEROBOT_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return kept | mine


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("lerobot_home")


@pytest.fixture(scope="module")
def bench(home: Path) -> Iterator[dict]:
    """A calibrated bench of its own process, and what it says when it is ready."""
    ready_file = home / "ready.json"
    words = ["sim", "--fresh", "--calibrated", "--run-dir", str(home / "sim"), "--base-port", "0"]
    with open(home / "sim.log", "w") as log:
        process = subprocess.Popen(
            [str(BIN / "lerobot-ext"), *words, "--cameras", "top", "--ready-file", str(ready_file)],
            env=environment(home),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    end = time.monotonic() + START_S
    while not ready_file.exists():
        assert process.poll() is None, (home / "sim.log").read_text()
        assert time.monotonic() < end, "the bench did not get ready"
        time.sleep(0.1)
    yield json.loads(ready_file.read_text())
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)


def arms(ready: dict) -> list[str]:
    fields = {
        "robot": {"type": "koch_follower", "port": ready["ports"]["follower"], "id": "sim_follower"},
        "teleop": {"type": "koch_leader", "port": ready["ports"]["leader"], "id": "sim_leader"},
    }
    return [f"--{role}.{k}={v}" for role, own in fields.items() for k, v in {**own, **PATIENCE}.items()]


def recording(ready: dict, root: Path, n_episodes: int, *more: str) -> list[str]:
    return [
        str(BIN / "lerobot-record"),
        *arms(ready),
        f"--robot.cameras={camera_argument(ready)}",
        "--dataset.repo_id=me/endings",
        f"--dataset.root={root}",
        "--dataset.single_task=Lift the red cube.",
        f"--dataset.num_episodes={n_episodes}",
        "--dataset.episode_time_s=2",
        "--dataset.reset_time_s=0.3",
        "--dataset.push_to_hub=false",
        "--play_sounds=false",
        *more,
    ]


def end_when(
    home: Path, words: list[str], said: str, number: int, before: tuple[str, dict] | None = None
) -> tuple[int, str]:
    """Run a command, send it a signal a second after it said something; its status and all that it said.

    `before` is something else that it says, and a fault that the bus has half a second later.
    """
    process = subprocess.Popen(
        words,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if before is not None and before[0] in line:
            time.sleep(0.5)
            with BenchClient(before[1]["control_socket"]) as client:
                client.request("fault", spec="silent=3:150", arm="follower")
        if said in line and number:
            time.sleep(1)
            process.send_signal(number)
            number = 0
    text = "".join(lines)
    assert not number, f"it never said {said!r}:\n{text[-3000:]}"
    return process.wait(timeout=60), text


def torque(ready: dict) -> dict[str, list[int]]:
    with BenchClient(ready["control_socket"]) as client:
        state: dict[str, list[int]] = client.request("torque")["torque"]
        return state


def load(root: Path, n_episodes: int) -> LeRobotDataset:
    dataset = LeRobotDataset("me/endings", root=root, video_backend="pyav")
    assert dataset.num_episodes == n_episodes
    assert len(dataset.hf_dataset) == dataset.num_frames > 20 * n_episodes
    for index in (0, dataset.num_frames - 1):
        assert dataset[index]["observation.images.top"].shape == (3, 96, 96)
    return dataset


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_the_whole_episodes_and_releases_the_arms(home, bench, number):
    root = home / f"ended_by_{int(number)}"
    silence = ("Recording episode 1", bench)
    status, text = end_when(home, recording(bench, root, 3), TWO_EPISODES, number, silence)
    assert status == -number, text[-3000:]
    assert f"{signal.Signals(number).name}: ending as with Ctrl-C." in text
    dataset = load(root, 2)
    stale = [json.loads(line) for line in (root / "meta/stale_values.jsonl").read_text().splitlines()]
    ages_ms = [row["age_ms"] for row in stale if (row["episode_index"], row["motor"]) == (1, "elbow_flex")]
    assert 60 < max(ages_ms) <= 200, stale
    assert all(row["frame_index"] < dataset.meta.episodes["length"][row["episode_index"]] for row in stale)
    assert not (root / "meta/journal").exists()
    assert not (root / "images").exists()
    assert torque(bench) == {"follower": [0] * 6, "leader": [0] * 6}


def test_after_a_kill_repair_saves_the_whole_episodes_and_recording_goes_on(home, bench):
    root = home / "killed"
    status, _ = end_when(home, recording(bench, root, 3), TWO_EPISODES, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert torque(bench)["follower"] == [1] * 6
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever LeRobot says about it
        load(root, 2)
    words = [str(BIN / "lerobot-ext"), "repair", str(root)]
    done = subprocess.run(words, env=environment(home), capture_output=True, text=True, timeout=START_S)
    assert done.returncode == 0, done.stderr
    assert "is repaired: 2 whole episodes" in done.stdout
    before = load(root, 2)
    words = recording(bench, root, 1, "--resume=true")
    done = subprocess.run(
        words,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    after = load(root, 3)
    first = before.hf_dataset.with_format("numpy")["observation.state"]
    assert (after.hf_dataset.with_format("numpy")["observation.state"][: len(first)] == first).all()


def test_teleoperating_ends_in_order_and_says_by_what(home, bench):
    words = [str(BIN / "lerobot-teleoperate"), *arms(bench), "--fps=30"]
    status, text = end_when(home, words, "RobustKochFollower connected", signal.SIGTERM)
    assert status == -signal.SIGTERM, text[-3000:]
    assert torque(bench) == {"follower": [0] * 6, "leader": [0] * 6}
