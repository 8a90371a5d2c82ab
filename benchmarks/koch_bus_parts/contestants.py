# SPDX-License-Identifier: Apache-2.0
"""The three drivers that are compared, as the stock CLIs name them."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Final

from lerobot.robots.config import RobotConfig
from lerobot.robots.utils import make_robot_from_config
from lerobot.teleoperators.config import TeleoperatorConfig
from lerobot.teleoperators.utils import make_teleoperator_from_config
from lerobot.utils.import_utils import register_third_party_plugins

from koch_bus_parts import config_naive  # noqa: F401 - registers the naive arms

CONTESTANTS: Final = {
    "stock": ("koch_follower_stock", "koch_leader_stock"),
    "naive": ("koch_follower_naive", "koch_leader_naive"),
    "ours": ("koch_follower", "koch_leader"),
}
"""Types of follower and leader."""

CONNECT_ATTEMPTS: Final = 10
BETWEEN_SESSIONS_S: Final = 0.2
"""Nobody reopens a port faster; what a dead session had asked for may still be on its way until then."""

FOLLOWER_ID: Final = "sim_follower"
LEADER_ID: Final = "sim_leader"


def arguments(contestant: str, ready: dict[str, Any]) -> list[str]:
    """What selects both arms on the command line of a stock CLI.

    Args:
        contestant (`str`): `stock`, `naive` or `ours`.
        ready (`dict`): What the bench says when it is ready.
    """
    follower, leader = CONTESTANTS[contestant]
    return [
        f"--robot.type={follower}",
        f"--robot.port={ready['ports']['follower']}",
        f"--robot.id={FOLLOWER_ID}",
        f"--teleop.type={leader}",
        f"--teleop.port={ready['ports']['leader']}",
        f"--teleop.id={LEADER_ID}",
    ]


def make_arms(contestant: str, ready: dict[str, Any], **fields: Any) -> tuple[Any, Any]:
    """Follower and leader, made by LeRobot's factories, not connected.

    Args:
        contestant (`str`): `stock`, `naive` or `ours`.
        ready (`dict`): What the bench says when it is ready.
        **fields: Further fields of both configs.
    """
    register_third_party_plugins()
    follower, leader = CONTESTANTS[contestant]
    robot_config = RobotConfig.get_choice_class(follower)
    leader_config = TeleoperatorConfig.get_choice_class(leader)
    ports = ready["ports"]
    return (
        make_robot_from_config(robot_config(port=ports["follower"], id=FOLLOWER_ID, **fields)),
        make_teleoperator_from_config(leader_config(port=ports["leader"], id=LEADER_ID, **fields)),
    )


@contextlib.contextmanager
def connected(contestant: str, ready: dict[str, Any], **fields: Any) -> Iterator[tuple[Any, Any]]:
    """Follower and leader, connected in the order of `lerobot-record` and let go whatever happens.

    Connecting is tried a few times: a busy host makes stock fail without any fault.
    """
    arms: tuple[Any, ...] = ()
    try:
        for attempt in range(CONNECT_ATTEMPTS):
            time.sleep(BETWEEN_SESSIONS_S)
            robot, leader = arms = make_arms(contestant, ready, **fields)
            try:
                leader.connect()
                robot.connect()
                break
            except Exception:
                for arm in arms:
                    release(arm)
                if attempt == CONNECT_ATTEMPTS - 1:
                    raise
        yield robot, leader
    finally:
        for arm in arms:
            release(arm)


def release(arm: Any) -> None:
    """Disconnect `arm`; a bus that fails once more at the end is closed all the same."""
    try:
        if arm.is_connected:
            arm.disconnect()
    except Exception:  # noqa: BLE001 - stock's disconnect raises on a lossy bus
        arm.bus.port_handler.closePort()
