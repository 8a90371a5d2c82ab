# SPDX-License-Identifier: Apache-2.0
"""`--robot.pipeline=FILE` and `--teleop.pipeline=FILE`: the steps inside a device, with any command line.

The device's features follow the steps, so that record, rollout, doctor and the async server see one robot
that happens to speak of end-effector poses, or smoothly. A robot runs `robot_observation` in
`get_observation` and `robot_action` in `send_action`; `teleop_action` tells it what its actions are called. A
teleoperator runs `teleop_action` in `get_action`.

    def __init__(self, config):
        super().__init__(config)
        self.pipelines = robot_pipelines(config.pipeline, self.name, super().action_features, …)
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from lerobot_ext.pipelines.features import Features
from lerobot_ext.pipelines.file import PipelineError
from lerobot_ext.pipelines.robot_side import RobotSide, Spaces, lost_in_rollout
from lerobot_ext.pipelines.running import HELD, StepError, require_command

logger = logging.getLogger(__name__)


class RobotPipelines:
    """The pipelines inside one robot.

    Args:
        path (`str`): Their file.
        robot (`str`): The robot's name, for messages.
        motors (`Mapping`): Its own action features.
        raw (`Mapping`): Its own observation features.

    Raises:
        PipelineError: The file is wrong, or does not fit the robot. Nothing is connected yet then.
    """

    def __init__(self, path: str, robot: str, motors: Mapping[str, Any], raw: Mapping[str, Any]) -> None:
        self.side = RobotSide.load(path)
        self.spaces: Spaces = self.side.spaces(motors, raw)
        self._observed: dict[str, Any] | None = None
        lost = lost_in_rollout(self.spaces)
        if lost:
            logger.warning(
                "%s: lerobot-rollout leaves out %s: it takes names that end in .pos or .vel.",
                robot,
                ", ".join(lost),
            )

    @property
    def action_features(self) -> Features:
        """What `send_action` takes."""
        return self.spaces.action

    @property
    def observation_features(self) -> Features:
        """What `get_observation` gives."""
        return self.spaces.observation

    def observe(self, raw: dict[str, Any]) -> dict[str, Any]:
        """What the robot observes, after `robot_observation`.

        Raises:
            StepError: A step fails, or does not give what it announced.
        """
        self._observed = raw
        observation: dict[str, Any] = self.side.robot_observation(raw)
        if observation.keys() != self.spaces.observation.keys():
            raise StepError(
                f"{self.side.robot_observation.name} gives {', '.join(observation)}",
                f"it announced {', '.join(self.spaces.observation)}: a step's transform_features is wrong",
            )
        return observation

    def command(self, action: Mapping[str, Any], read: Callable[[], dict[str, Any]]) -> dict[str, float]:
        """The command for the motors, after `robot_action`. If it raises, none is to be sent.

        Args:
            action (`Mapping`): What `send_action` was given. Names of the observation besides are left out:
                `lerobot-rollout` sends its first observation back to return to where the arm was.
            read (`Callable`): Reads the robot's own observation; asked once at most, as long as nothing was
                observed.

        Raises:
            StepError: The action does not fit, a step fails, or what comes out is no command.
        """
        if self._observed is None:
            self._observed = read()
        taken = self.taken(action)
        return require_command(
            self.side.robot_action((taken, self._observed)), self.spaces.motors, self.side.robot_action.name
        )

    def taken(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """The part of an action that `robot_action` takes.

        Raises:
            StepError: Something is missing, or nobody knows it.
        """
        wanted = self.spaces.action
        known = {**wanted, **self.spaces.observation}
        missing = [name for name in wanted if name not in action]
        spare = [name for name in action if name not in known]
        if missing or spare:
            raise StepError(
                f"the robot got an action of {', '.join(action) or 'nothing'}",
                f"with {self.side.path} it takes {', '.join(wanted)}; a leader needs the same file as "
                f"`--teleop.pipeline`. {HELD}",
            )
        return {name: action[name] for name in wanted}

    def sent(self, action: Mapping[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
        """What `send_action` returns: what the motors got if that has the action's names, else the action."""
        return sent if self.spaces.keeps_names else self.taken(action)


class TeleopPipelines:
    """The pipeline inside one teleoperator.

    Raises:
        PipelineError: The file is wrong, has no `teleop_action`, or does not fit.
    """

    def __init__(self, path: str, motors: Mapping[str, Any]) -> None:
        self.side = RobotSide.load(path)
        if not self.side.teleop_action.steps:
            raise PipelineError(
                f"{path} has no steps under `teleop_action`",
                "a teleoperator runs those; leave --teleop.pipeline out, or add them",
            )
        self.spaces = self.side.spaces(motors, motors)

    @property
    def action_features(self) -> Features:
        """What `get_action` gives."""
        return self.spaces.action

    def act(self, raw: dict[str, Any]) -> dict[str, float]:
        """What the leader says, after `teleop_action`.

        Steps that look at an observation get the leader's own joints: it knows of no robot.

        Raises:
            StepError: A step fails, or what comes out is no command.
        """
        return require_command(
            self.side.teleop_action((raw, raw)), self.spaces.action, self.side.teleop_action.name
        )


def robot_pipelines(
    path: str | None, robot: str, motors: Mapping[str, Any], raw: Mapping[str, Any]
) -> RobotPipelines | None:
    """The pipelines of `--robot.pipeline`, if there are any."""
    return RobotPipelines(path, robot, motors, raw) if path else None
