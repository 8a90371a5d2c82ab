# SPDX-License-Identifier: Apache-2.0
"""A robot-side pipeline that names the step that failed, and lets no command through that is not one.

What a step raises, or makes of a number, must never reach a motor: the error comes before the command is
sent, so that the arm stays under the last good one.
"""

import math
from collections.abc import Mapping
from typing import Any

from lerobot.lerobot_types import EnvTransition, TransitionKey
from lerobot.processor.converters import (
    observation_to_transition,
    robot_action_observation_to_transition,
    transition_to_observation,
    transition_to_robot_action,
)

from lerobot_ext.pipelines.build import build_steps, step_name
from lerobot_ext.pipelines.features import RobotFeaturesPipeline
from lerobot_ext.pipelines.file import ROBOT_OBSERVATION, PipelineEntry, PipelineError
from lerobot_ext.plugins import describe_error

HELD = "nothing was sent: the arm stays under its last command"


class StepError(PipelineError):
    """A step failed while the arm was running; no command came of it."""


class GuardedPipeline(RobotFeaturesPipeline):
    """LeRobot's pipeline; an error says which step it was, and what came to it."""

    def _forward(self, transition: EnvTransition) -> EnvTransition:
        for index, step in enumerate(self.steps):
            try:
                transition = step(transition)
            except Exception as error:  # the boundary to anybody's step
                raise StepError(
                    f"{self.name}, step {index} ({step_name(step)}) failed: {describe_error(error)}",
                    f"{HELD}. It got {_contents(transition)}",
                ) from error
        return transition


def _contents(transition: EnvTransition) -> str:
    parts = []
    for kind, key in (("action", TransitionKey.ACTION), ("observation", TransitionKey.OBSERVATION)):
        value = transition.get(key)
        if isinstance(value, Mapping):
            parts.append(f"{kind} {{{', '.join(f'{name}: {_short(one)}' for name, one in value.items())}}}")
    return " and ".join(parts)


def _short(value: Any) -> str:
    shape = tuple(getattr(value, "shape", ()))
    if shape:
        return f"array {shape}"
    return f"{float(value):.4g}" if isinstance(value, (int, float)) else type(value).__name__


def action_pipeline(entry: PipelineEntry | None, name: str) -> GuardedPipeline:
    """A pipeline from (action, observation) to an action; without an entry it changes nothing."""
    return GuardedPipeline(
        steps=build_steps(entry) if entry is not None else [],
        name=entry.place() if entry is not None else name,
        to_transition=_with_plain_numbers,
        to_output=transition_to_robot_action,
    )


def _with_plain_numbers(action_observation: tuple[Mapping[str, Any], Any]) -> EnvTransition:
    """LeRobot's transition; `lerobot-replay` gives each joint as a tensor, everybody else as a number."""
    action, observation = action_observation
    plain = {name: value.item() if _is_one_number(value) else value for name, value in action.items()}
    return robot_action_observation_to_transition((plain, observation))


def _is_one_number(value: Any) -> bool:
    """Whether it is an array or a tensor of one number."""
    return hasattr(value, "item") and math.prod(getattr(value, "shape", (0,))) == 1


def observation_pipeline(entry: PipelineEntry | None, name: str = ROBOT_OBSERVATION) -> GuardedPipeline:
    """A pipeline from observation to observation; without an entry it changes nothing."""
    return GuardedPipeline(
        steps=build_steps(entry) if entry is not None else [],
        name=entry.place() if entry is not None else name,
        to_transition=observation_to_transition,
        to_output=transition_to_observation,
    )


def require_command(action: Mapping[str, Any], names: Mapping[str, Any], pipeline: str) -> dict[str, float]:
    """The command for the motors that an action is.

    Args:
        action (`Mapping`): What the last step made, by name.
        names (`Mapping`): The motors' features.
        pipeline (`str`): Whose steps they were, for errors.

    Returns:
        A number for each motor, in their order.

    Raises:
        StepError: A motor is missing, something else is there, or a value is no finite number.
    """
    missing = [name for name in names if name not in action]
    spare = [name for name in action if name not in names]
    if missing or spare:
        raise StepError(
            f"{pipeline} ends with {', '.join(map(str, action)) or 'nothing'}",
            f"the robot takes {', '.join(names)}; {HELD}",
        )
    command = {}
    for name in names:
        try:
            command[name] = float(action[name])
        except (TypeError, ValueError):
            command[name] = math.nan
        if not math.isfinite(command[name]):
            raise StepError(f"{pipeline} makes {action[name]!r} of {name}", f"no command; {HELD}")
    return command
