# SPDX-License-Identifier: Apache-2.0
"""The three pipelines around a robot, and whether they fit it.

    leader ─ teleop_action ─┬─ dataset            robot ─ robot_observation ─ dataset, policy
                            └─ robot_action ─ robot
                   policy ─────┘

`teleop_action` leads from the robot's own numbers to those of the dataset, `robot_action` back. So the
dataset may hold end-effector poses while leader and follower speak of joints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot.processor import ObservationProcessorStep, RobotActionProcessorStep
from lerobot.processor.pipeline import ActionProcessorStep

from lerobot_ext.pipelines import episodes
from lerobot_ext.pipelines.build import step_name
from lerobot_ext.pipelines.features import Features, as_robot_features, features_after
from lerobot_ext.pipelines.file import (
    ROBOT_ACTION,
    ROBOT_OBSERVATION,
    ROBOT_SIDE,
    TELEOP_ACTION,
    PipelineEntry,
    PipelineError,
    read_file,
)
from lerobot_ext.pipelines.running import GuardedPipeline, action_pipeline, observation_pipeline

ROLLOUT_ENDINGS = (".pos", ".vel")
"""`lerobot-rollout` hands a policy only the numbers of a robot whose names end so."""


@dataclass(frozen=True)
class Spaces:
    """What a robot's features become.

    Args:
        motors (`dict`): What the robot itself takes.
        action (`dict`): What is recorded, and what a policy gives.
        raw (`dict`): What the robot itself observes.
        observation (`dict`): What is recorded, and what a policy gets.
    """

    motors: Features
    action: Features
    raw: Features
    observation: Features

    @property
    def keeps_names(self) -> bool:
        """Whether an action has the same names before and after `robot_action`."""
        return set(self.motors) == set(self.action)


class RobotSide:
    """The pipelines of one file.

    Args:
        teleop_action (`GuardedPipeline`): From what the leader says to what is recorded.
        robot_action (`GuardedPipeline`): From what is recorded to what the robot takes.
        robot_observation (`GuardedPipeline`): From what the robot observes to what is recorded.
        path (`Path`): The file.
    """

    def __init__(
        self,
        teleop_action: GuardedPipeline,
        robot_action: GuardedPipeline,
        robot_observation: GuardedPipeline,
        path: Path,
    ) -> None:
        self.teleop_action = teleop_action
        self.robot_action = robot_action
        self.robot_observation = robot_observation
        self.path = path

    @classmethod
    def load(cls, path: Path | str) -> "RobotSide":
        """The pipelines of a file; those it does not name change nothing. They are reset at each episode.

        Raises:
            PipelineError: The file is wrong, or a step of it cannot be made.
        """
        entries = _named(read_file(path, ROBOT_SIDE))
        made = cls(
            action_pipeline(entries.get(TELEOP_ACTION), TELEOP_ACTION),
            action_pipeline(entries.get(ROBOT_ACTION), ROBOT_ACTION),
            observation_pipeline(entries.get(ROBOT_OBSERVATION)),
            Path(path).expanduser(),
        )
        episodes.watch(made)
        return made

    @property
    def pipelines(self) -> dict[str, GuardedPipeline]:
        """All three by name."""
        return {
            TELEOP_ACTION: self.teleop_action,
            ROBOT_ACTION: self.robot_action,
            ROBOT_OBSERVATION: self.robot_observation,
        }

    def reset(self) -> None:
        """Let every step forget the last episode."""
        for pipeline in self.pipelines.values():
            pipeline.reset()

    def spaces(self, motors: Mapping[str, Any], raw: Mapping[str, Any]) -> Spaces:
        """What the features of a robot become.

        Args:
            motors (`Mapping`): The robot's own `action_features`.
            raw (`Mapping`): Its own `observation_features`.

        Raises:
            PipelineError: A step does not take them, or `robot_action` does not lead back to the motors.
        """
        action, _ = features_after(self.teleop_action.steps, motors, raw, place=self.teleop_action.name)
        back, _ = features_after(self.robot_action.steps, action, raw, place=self.robot_action.name)
        _, observation = features_after(
            self.robot_observation.steps, {}, raw, place=self.robot_observation.name
        )
        action, observation = as_robot_features(action), as_robot_features(observation)
        self._require_way_back(motors, action, back)
        pictures = [name for name, value in action.items() if value is not float]
        if pictures:
            raise PipelineError(
                f"{self.teleop_action.name} makes {', '.join(pictures)} no number", "give numbers"
            )
        return Spaces(dict(motors), action, dict(raw), observation)

    def _require_way_back(self, motors: Mapping[str, Any], action: Features, back: Features) -> None:
        missing = [name for name in motors if name not in back]
        spare = [name for name in back if name not in motors]
        if not missing and not spare:
            return
        what = (
            f"{self.robot_action.name} leads from {_list(action)} to {_list(back)}, "
            f"the robot takes {_list(motors)}"
        )
        if not self.teleop_action.steps:
            remedy = f"add `{TELEOP_ACTION}`, the way from the robot's numbers to those it starts from"
        elif not self.robot_action.steps:
            remedy = f"add `{ROBOT_ACTION}`, the way back to the robot's numbers"
        else:
            remedy = f"`{ROBOT_ACTION}` has to undo the names that `{TELEOP_ACTION}` gives"
        raise PipelineError(what, remedy)


def lost_in_rollout(spaces: Spaces) -> list[str]:
    """Numbers of a robot with these features that `lerobot-rollout` leaves out without a word."""
    return [
        name
        for name, value in {**spaces.action, **spaces.observation}.items()
        if value is float and not name.endswith(ROLLOUT_ENDINGS)
    ]


def _named(entries: dict[str, PipelineEntry]) -> dict[str, PipelineEntry]:
    """The entries; the one of a plain file under the name that its steps tell."""
    if set(entries) != {""}:
        return entries
    from lerobot_ext.pipelines.build import build_steps

    entry = entries[""]
    steps = build_steps(entry)
    if steps and all(isinstance(step, ObservationProcessorStep) for step in steps):
        return {ROBOT_OBSERVATION: entry}
    if steps and all(isinstance(step, (RobotActionProcessorStep, ActionProcessorStep)) for step in steps):
        return {ROBOT_ACTION: entry}
    raise PipelineError(
        f"{entry.path} does not tell which pipeline it is ({_kinds(steps)})",
        f'put it under one of the names {", ".join(ROBOT_SIDE)}: {{"{ROBOT_ACTION}": {{"steps": […]}}}}',
    )


def _kinds(steps: Sequence[Any]) -> str:
    return f"steps {', '.join(step_name(step) for step in steps)}" if steps else "it has no steps"


def _list(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "nothing"
