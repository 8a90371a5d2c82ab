# SPDX-License-Identifier: Apache-2.0
"""What each arm's bus should look like: motors by id, and what their data sheets ask for.

The motors are stock LeRobot's (a test compares); they are repeated here because importing LeRobot's devices
takes longer than the whole examination.
"""

from dataclasses import dataclass
from typing import Final

from lerobot_robot_koch.config_bus import JOINTS


@dataclass(frozen=True)
class MotorModel:
    """A servo type.

    Args:
        name (`str`): LeRobot's name of the model.
        number (`int`): What it answers to a ping.
        min_volts (`float`), max_volts (`float`): Supply it is made for
            (https://emanual.robotis.com/docs/en/dxl/x/).
        weak_volts (`float`): Below this it works, but with noticeably less force.
        supply (`str`): What it should be fed with.
    """

    name: str
    number: int
    min_volts: float
    max_volts: float
    weak_volts: float
    supply: str


XL430: Final = MotorModel("xl430-w250", 1060, 6.5, 14.8, 10.0, "11.1 V or 12 V")
XL330_M288: Final = MotorModel("xl330-m288", 1200, 3.7, 6.0, 4.5, "5 V")
XL330_M077: Final = MotorModel("xl330-m077", 1190, 3.7, 6.0, 4.5, "5 V")
MODELS: Final = {model.number: model for model in (XL430, XL330_M288, XL330_M077)}

ARMS: Final[dict[str, tuple[MotorModel, ...]]] = {
    "koch_follower": (XL430, XL430, XL330_M288, XL330_M288, XL330_M288, XL330_M288),
    "koch_leader": (XL330_M077,) * len(JOINTS),
}
"""Models in the order of ids 1 to 6, which is the order of the joints and of the cables."""

BAUD_RATE: Final = 1_000_000
OTHER_BAUD_RATES: Final = (57_600, 115_200, 2_000_000, 3_000_000, 4_000_000)
"""Where else a motor may be; new ones have 57600."""


def joint_of(id_: int) -> str:
    """Joint name of a motor id, or `id 9` for one that no joint has."""
    return JOINTS[id_ - 1] if 1 <= id_ <= len(JOINTS) else f"id {id_}"


def model_name(number: int | None) -> str:
    """LeRobot's name of a model number."""
    if number is None:
        return "unknown"
    return MODELS[number].name if number in MODELS else f"model {number}"
