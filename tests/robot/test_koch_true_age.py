# SPDX-License-Identifier: Apache-2.0
"""No value older than `max_stale_ms` is used: by the bench's clock, which every position shows."""

import time

import numpy as np
import pytest
from lerobot_env_koch.bench.control import BenchClient
from lerobot_env_koch.bench.hand import HandMode
from lerobot_env_koch.constants import JOINT_NAMES
from lerobot_robot_koch import RobustKochFollower, RobustKochFollowerConfig
from lerobot_robot_koch.errors import BusLostError

FRAME_S = 1 / 30
MAX_STALE_MS = 200.0
CLOCK_MS = 4096
N_ATTEMPTS = 3  # a host that stalls makes values old now and then, a wrong driver always


@pytest.fixture
def bench(start_bench, tmp_path):
    bench = start_bench(
        calibrated=True, calibration_dir=tmp_path / "calibration", hand=HandMode("clock"), fresh=True
    )
    with BenchClient(bench.ready()["control_socket"]) as client:
        yield client


def oldest_ms(bench: BenchClient, fault: str, n_frames: int, **fields) -> float:
    """True age of the oldest value that the follower returned in `n_frames`, in milliseconds."""
    port = bench.request("ready")["ports"]["follower"]
    robot = RobustKochFollower(RobustKochFollowerConfig(port=port, id="sim_follower", **fields))
    robot.connect()
    ages = []
    try:
        for i in range(n_frames):
            if i == 5:
                bench.request("fault", spec=fault)
            start_s = time.monotonic()
            observation = robot.get_observation()
            now_ms = time.monotonic() * 1000
            shown = np.array([observation[f"{joint}.pos"] for joint in JOINT_NAMES])
            share = np.append((shown[:-1] + 100) / 200, shown[-1] / 100)
            ages.append(np.mod(now_ms - np.round(share * (CLOCK_MS - 1)), CLOCK_MS).max())
            time.sleep(max(0.0, FRAME_S - (time.monotonic() - start_s)))
    finally:
        bench.request("fault", spec="")
        robot.disconnect()
    return float(max(ages))


def test_motors_that_answered_are_asked_again_when_another_took_too_long(bench):
    """A motor silent for 375 ms: what the others said at the beginning of the wait is no longer good."""
    oldest = []
    for _ in range(N_ATTEMPTS):
        try:
            oldest.append(oldest_ms(bench, "silent=3:375", 30))
        except BusLostError:
            continue  # on a slow host the wait may come too near to `give_up_ms`
        if oldest[-1] <= MAX_STALE_MS:
            return
    raise AssertionError(f"older than {MAX_STALE_MS:.0f} ms: {oldest}")


def test_without_old_values_a_good_bus_is_read_all_the_same(bench):
    assert oldest_ms(bench, "", 10, max_stale_ms=0.0) < 1000
