# SPDX-License-Identifier: Apache-2.0
"""How recordings end that are not allowed to finish, by the stock CLIs against `lerobot-ext sim`.

| end | dataset | exit status | torque |
|---|---|---|---|
| SIGTERM, SIGHUP | the two whole episodes | 143, 129 | off |
| SIGKILL | the same, after `lerobot-ext repair`; then `--resume=true` | 137 | stays on: the arm holds |
"""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot_env_koch.bench.command import camera_argument
from lerobot_env_koch.bench.control import BenchClient
from stock_cli import BIN, PATIENCE_MS, environment, run, sim

pytestmark = pytest.mark.slow

TWO_EPISODES = "Recording episode 2"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("lerobot_home")


@pytest.fixture(scope="module")
def bench(home: Path) -> Iterator[dict]:
    """A calibrated bench of its own process, and what it says when it is ready."""
    with sim(home, "--calibrated", "--cameras", "top") as started:
        yield started


def arms(ready: dict) -> list[str]:
    fields = {
        "robot": {"type": "koch_follower", "port": ready["ports"]["follower"], "id": "sim_follower"},
        "teleop": {"type": "koch_leader", "port": ready["ports"]["leader"], "id": "sim_leader"},
    }
    for own in fields.values():
        own["give_up_ms"] = PATIENCE_MS
    return [f"--{role}.{name}={value}" for role, own in fields.items() for name, value in own.items()]


def recording(ready: dict, root: Path, n_episodes: int, *more: str) -> list[str]:
    return [
        "lerobot-record",
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
        [str(BIN / words[0]), *words[1:]],
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
    done = run(home, "lerobot-ext", "repair", str(root))
    assert done.returncode == 0, done.stderr
    assert "is repaired: 2 whole episodes" in done.stdout
    before = load(root, 2)
    done = run(home, *recording(bench, root, 1, "--resume=true"))
    assert done.returncode == 0, done.stderr[-3000:]
    after = load(root, 3)
    first = before.hf_dataset.with_format("numpy")["observation.state"]
    assert (after.hf_dataset.with_format("numpy")["observation.state"][: len(first)] == first).all()


def test_teleoperating_ends_in_order_and_says_by_what(home, bench):
    words = ["lerobot-teleoperate", *arms(bench), "--fps=30"]
    status, text = end_when(home, words, "RobustKochFollower connected", signal.SIGTERM)
    assert status == -signal.SIGTERM, text[-3000:]
    assert torque(bench) == {"follower": [0] * 6, "leader": [0] * 6}
