# SPDX-License-Identifier: Apache-2.0
"""`LEROBOT_EXT_PIPELINES=FILE`: a file's pipelines around any robot of record, teleoperate, replay, rollout.

LeRobot has the places for them and no option: `make_default_*` in `lerobot/processor/factory.py` always give
the identity. Here they give the pipelines of the file. As soon as the command has made its robot, which it
does before it connects anything, they are checked against the robot's features.

With `--robot.pipeline` besides, the robot's own steps are the inner ones: they run first on an observation,
last on an action.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from lerobot.processor import factory

from lerobot_ext.patches import Patch, Place
from lerobot_ext.pipelines import episodes
from lerobot_ext.pipelines.episodes import modules_of
from lerobot_ext.pipelines.features import features_after
from lerobot_ext.pipelines.file import ROBOT_ACTION, ROBOT_OBSERVATION, TELEOP_ACTION, PipelineError
from lerobot_ext.pipelines.robot_side import RobotSide, Spaces
from lerobot_ext.pipelines.running import GuardedPipeline, require_command

VARIABLE = "LEROBOT_EXT_PIPELINES"
_MAKERS = {
    "make_default_teleop_action_processor": TELEOP_ACTION,
    "make_default_robot_action_processor": ROBOT_ACTION,
    "make_default_robot_observation_processor": ROBOT_OBSERVATION,
}
_WITH_ROBOTS = (
    "lerobot.scripts.lerobot_record",
    "lerobot.scripts.lerobot_teleoperate",
    "lerobot.scripts.lerobot_replay",
    "lerobot.rollout.context",
)

_patch = Patch("robot-side pipelines", f"{VARIABLE} is NOT IN EFFECT: the robot runs without its steps")
_path: Path | None = None
_spaces: Spaces | None = None


def install(path: str) -> bool:
    """Put the pipelines of a file in place of LeRobot's identities; again, while they are, changes nothing.

    Returns:
        Whether they are in place: not with a LeRobot outside the tested window, which is logged.
    """
    global _path, _spaces
    if _patch.installed:
        return True
    _path, _spaces = Path(path).expanduser(), None
    replacements: dict[Place, Any] = {}
    for maker, key in _MAKERS.items():
        stock = getattr(factory, maker)
        for module in _holders(stock, maker):
            replacements[module, maker] = _maker(key)
    for name in _WITH_ROBOTS:
        for module in modules_of(name):
            replacements[module, "make_robot_from_config"] = _make_robot(module)
            if name == "lerobot.rollout.context":
                replacements[module, "_resolve_action_key_order"] = _action_order
    return _patch.install(replacements)


def uninstall() -> None:
    """Give LeRobot its identities back."""
    global _path, _spaces
    _patch.uninstall()
    _path = _spaces = None


def _holders(function: Callable[..., Any], name: str) -> list[ModuleType]:
    """The modules that have a function of LeRobot's under its name: scripts import it before plugins load."""
    return [
        module
        for found, module in list(sys.modules.items())
        if (found == "__main__" or found.partition(".")[0] == "lerobot")
        and isinstance(module, ModuleType)
        and vars(module).get(name) is function
    ]


def _maker(key: str) -> Callable[[], GuardedPipeline]:
    def make() -> GuardedPipeline:
        assert _path is not None
        pipeline = RobotSide.load(_path).pipelines[key]
        if key == ROBOT_ACTION:
            _guard_commands(pipeline)
        episodes.watch(pipeline)
        return pipeline

    return make


def _guard_commands(pipeline: GuardedPipeline) -> None:
    """Check what comes out against the robot, as soon as it is known."""
    stock = pipeline.to_output

    def to_output(transition: Any) -> Any:
        action = stock(transition)
        return action if _spaces is None else require_command(action, _spaces.motors, pipeline.name)

    pipeline.to_output = to_output


def _make_robot(module: ModuleType) -> Callable[..., Any]:
    def make(*words: Any, **named: Any) -> Any:
        global _spaces
        robot = _patch.stock("make_robot_from_config", module)(*words, **named)
        assert _path is not None
        _refuse_twice(robot, _path)
        _spaces = RobotSide.load(_path).spaces(robot.action_features, robot.observation_features)
        return robot

    return make


def _refuse_twice(robot: Any, path: Path) -> None:
    own = getattr(getattr(robot, "config", None), "pipeline", None)
    if own and Path(own).expanduser().resolve() == path.resolve():
        raise PipelineError(
            f"--robot.pipeline and {VARIABLE} both name {path}: every step would run twice", "leave one out"
        )


def _action_order(policy_names: list[str] | None, robot_names: list[str]) -> list[str]:
    """LeRobot's, asked about the names that a policy's actions have, not those that the robot takes.

    Stock takes the robot's; with a `teleop_action` that gives other names a policy's action is then looked up
    under names it does not have.
    """
    assert _path is not None
    side = RobotSide.load(_path)
    action, _ = features_after(
        side.teleop_action.steps, dict.fromkeys(robot_names, float), place=side.teleop_action.name
    )
    found: list[str] = _patch.stock("_resolve_action_key_order")(policy_names, list(action))
    return found
