# SPDX-License-Identifier: Apache-2.0
"""Small checkpoints, a robot without hardware, and servers in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from serving_checkpoints import JOINTS, save_act

from lerobot_ext.serving.allowlist import AllowList
from lerobot_ext.serving.lease import Lease
from lerobot_ext.serving.messages import Join
from lerobot_ext.serving.policy_host import PolicyHost
from lerobot_ext.serving.policy_server import Listening, PolicyService, RunningServer
from lerobot_ext.serving.robot_client import followed_actions, observed_features


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def act_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock `act` that wants joint i at 3 i, whatever it sees."""
    return save_act(tmp_path_factory.mktemp("act") / "pretrained_model")


class PaperRobot:
    """Six joints and a camera on paper; it is where it was told to be."""

    name = "paper"

    def __init__(self, size: tuple[int, int] = (24, 32), state: tuple[str, ...] = JOINTS) -> None:
        self.size = size
        self.state = state
        self.joints = dict.fromkeys(state, 0.0)
        self.actions: list[dict[str, float]] = []
        self.is_connected = False
        self.observation_features = {**dict.fromkeys(state, float), "top": (*size, 3)}
        self.action_features = dict.fromkeys(JOINTS, float)

    def connect(self) -> None:
        self.is_connected = True

    def disconnect(self) -> None:
        self.is_connected = False

    def get_observation(self) -> dict[str, Any]:
        return {**self.joints, "top": np.full((*self.size, 3), len(self.actions) % 255, np.uint8)}

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        self.actions.append(action)
        self.joints.update(action)
        return action


@pytest.fixture
def robot() -> PaperRobot:
    return PaperRobot()


@pytest.fixture
def make_robot() -> Callable[..., PaperRobot]:
    return PaperRobot


def join_of(robot: PaperRobot, **fields: Any) -> Join:
    """What a client of `robot` asks for."""
    made = {
        "policy": "",
        "robot_type": robot.name,
        "features": observed_features(robot.observation_features),
        "action_names": followed_actions(robot.action_features),
    }
    return Join(**{**made, **fields})


@pytest.fixture
def make_join() -> Callable[..., Join]:
    return join_of


@pytest.fixture(scope="session")
def host() -> PolicyHost:
    """Shared, so that each checkpoint is loaded once for all tests."""
    return PolicyHost(max_loaded=8)


@pytest.fixture
def serve(host: PolicyHost) -> Callable[..., Any]:
    """Runs a server in this process: `with serve([path], token=…) as (service, address): …`."""

    @contextmanager
    def running(
        paths: list[Path],
        lease_s: float = 10.0,
        clients: str = "refuse",
        poll_s: float = 2.0,
        **listening: Any,
    ) -> Iterator[tuple[PolicyService, str]]:
        allowed = AllowList([str(path) for path in paths])
        service = PolicyService(allowed, host, Lease(lease_s, clients), poll_s=poll_s)  # type: ignore[arg-type]
        with RunningServer(service, Listening(**listening)) as server:
            yield service, f"127.0.0.1:{server.port}"

    return running


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()
