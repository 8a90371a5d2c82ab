# SPDX-License-Identifier: Apache-2.0
"""What a robot's features become under a pipeline, in the form that LeRobot's robots have.

A robot says `float` for a number and `(height, width, channels)` for a picture. Steps that are written for a
policy's features answer with `PolicyFeature`; LeRobot's dataset writer loses a picture described so, and
`lerobot-rollout` everything, so they are turned back.
"""

from collections.abc import Mapping
from typing import Any

from lerobot.configs import FeatureType, PipelineFeatureType, PolicyFeature
from lerobot.processor import DataProcessorPipeline

from lerobot_ext.pipelines.build import step_name
from lerobot_ext.pipelines.file import PipelineError
from lerobot_ext.plugins import describe_error

Features = dict[str, Any]
"""Names to `float`, a shape, or a `PolicyFeature`."""
Both = dict[PipelineFeatureType, Features]


def features_after(
    steps: Any,
    action: Mapping[str, Any] | None = None,
    observation: Mapping[str, Any] | None = None,
    *,
    place: str = "the pipeline",
) -> tuple[Features, Features]:
    """The features after some steps.

    Args:
        steps (`Sequence[ProcessorStep]`): The steps.
        action (`Mapping`, *optional*): Features of the action before.
        observation (`Mapping`, *optional*): Features of the observation before.
        place (`str`): What to call the pipeline in an error.

    Returns:
        `tuple`: Features of the action and of the observation.

    Raises:
        PipelineError: A step does not take these features.
    """
    walked = walk(steps, action, observation, place=place)
    return walked[-1][1] if walked else (dict(action or {}), dict(observation or {}))


def walk(
    steps: Any,
    action: Mapping[str, Any] | None = None,
    observation: Mapping[str, Any] | None = None,
    *,
    place: str = "the pipeline",
) -> list[tuple[Any, tuple[Features, Features]]]:
    """Each step, with the features of action and observation after it.

    Raises:
        PipelineError: A step does not take these features.
    """
    now: Both = {
        PipelineFeatureType.ACTION: dict(action or {}),
        PipelineFeatureType.OBSERVATION: dict(observation or {}),
    }
    found = []
    for index, step in enumerate(steps):
        try:
            after = step.transform_features({kind: dict(value) for kind, value in now.items()})
            now = {kind: dict(value) for kind, value in after.items()}
            pair = now[PipelineFeatureType.ACTION], now[PipelineFeatureType.OBSERVATION]
        except Exception as error:  # the boundary to anybody's step
            raise PipelineError(
                f"{place}, step {index} ({step_name(step)}) does not take what comes to it: "
                f"{describe_error(error)}",
                f"it gets action {_names(now, PipelineFeatureType.ACTION)} and observation "
                f"{_names(now, PipelineFeatureType.OBSERVATION)}",
            ) from error
        found.append((step, (dict(pair[0]), dict(pair[1]))))
    return found


def as_robot_features(features: Mapping[str, Any]) -> Features:
    """Features as a robot's properties give them: `float`, or (height, width, channels)."""
    return {name: _as_robot_feature(name, value) for name, value in features.items()}


def _as_robot_feature(name: str, value: Any) -> Any:
    if not isinstance(value, PolicyFeature):
        return value
    shape = tuple(value.shape)
    if value.type is FeatureType.VISUAL and len(shape) == 3:
        channels_first = shape[0] in (1, 3) and shape[2] not in (1, 3)
        return (shape[1], shape[2], shape[0]) if channels_first else shape
    if shape in ((), (1,)):
        return float
    raise PipelineError(
        f"feature {name!r} is {value.type.value} of shape {shape}",
        "on a robot's side a feature is one number or one picture: give each number a name of its own",
    )


def describe(value: Any) -> str:
    """A feature for a table: `number`, or a shape."""
    if isinstance(value, PolicyFeature):
        return f"{value.type.value.lower()} {tuple(value.shape)}"
    return "number" if value is float else str(value)


def _names(now: Both, kind: PipelineFeatureType) -> str:
    return ", ".join(map(str, now.get(kind, {}))) or "nothing"


class RobotFeaturesPipeline(DataProcessorPipeline):  # type: ignore[misc]
    """A pipeline whose features are those of a robot, also when its steps are written for a policy's."""

    def transform_features(self, initial_features: Both) -> Both:
        """As LeRobot's; a step that does not take the features is named."""
        action, observation = features_after(
            self.steps,
            initial_features.get(PipelineFeatureType.ACTION),
            initial_features.get(PipelineFeatureType.OBSERVATION),
            place=self.name,
        )
        return {
            PipelineFeatureType.ACTION: as_robot_features(action),
            PipelineFeatureType.OBSERVATION: as_robot_features(observation),
        }
