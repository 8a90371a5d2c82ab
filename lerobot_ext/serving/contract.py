# SPDX-License-Identifier: Apache-2.0
"""Whether a robot and a policy fit together: names and shapes, through the checkpoint's own preprocessor.

The preprocessor may rename features or split them, so what counts is what comes out of it. All mismatches are
named at once, before the robot moves.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.configs.types import PipelineFeatureType

from lerobot_ext.serving.messages import Feature, Join

PolicyFeatures = Mapping[str, PolicyFeature]


class TransformsFeatures(Protocol):
    """What is needed of a preprocessor here."""

    def transform_features(self, initial_features: Any) -> Any:
        """Features after the pipeline."""


class Mismatch(ValueError):  # noqa: N818 - reads as what it says
    """Robot and policy do not fit; the message names every difference."""


def wanted_features(
    join: Join, inputs: PolicyFeatures, preprocessor: TransformsFeatures
) -> dict[str, Feature]:
    """The robot's features that the policy needs, at the size it needs them.

    Args:
        join (`Join`): What the robot gives.
        inputs (`Mapping[str, PolicyFeature]`): The policy's input features.
        preprocessor: The checkpoint's, with the client's `rename_map` in it.

    Returns:
        A selection of `join.features`; pictures of another size are asked for at the policy's when the client
        said it scales them.

    Raises:
        Mismatch: Something is missing or has another shape.
    """
    offered = dict(join.features)
    given = _after(offered, preprocessor)
    offered, given = _scaled(join, offered, given, inputs, preprocessor)
    problems = [problem for name, feature in inputs.items() if (problem := _problem(name, feature, given))]
    if problems:
        raise Mismatch(_explain(problems, join, given))
    return {
        name: feature for name, feature in offered.items() if _is_needed(name, offered, inputs, preprocessor)
    }


def action_order(join: Join, output: PolicyFeature | None, names: Sequence[str] | None) -> list[int]:
    """Columns of the policy's actions in the robot's order.

    Args:
        join (`Join`): What the robot takes.
        output (`PolicyFeature`, *optional*): The policy's action feature.
        names (`Sequence[str]`, *optional*): The policy's `action_feature_names`, where it has them.

    Raises:
        Mismatch: The numbers of actions, or their names, differ.
    """
    width = 0 if output is None else output.shape[0]
    robot = list(join.action_names)
    if len(robot) != width:
        raise Mismatch(
            f"the policy gives {width} actions, the robot takes {len(robot)} ({', '.join(robot)}): use the "
            "robot the policy was trained with, or a policy trained for this one"
        )
    if not names:
        return list(range(width))
    if sorted(names) != sorted(robot):
        raise Mismatch(f"the policy's actions are {', '.join(names)}; the robot takes {', '.join(robot)}")
    return [list(names).index(name) for name in robot]


def policy_features(features: Mapping[str, Feature]) -> dict[str, PolicyFeature]:
    """Features as the policies name them: pictures channels first."""
    return {
        name: PolicyFeature(FeatureType.VISUAL, (feature.shape[2], *feature.shape[:2]))
        if feature.is_picture
        else PolicyFeature(FeatureType.STATE, feature.shape)
        for name, feature in features.items()
    }


def _after(features: Mapping[str, Feature], preprocessor: TransformsFeatures) -> PolicyFeatures:
    """What the policy will see of `features`."""
    try:
        transformed = preprocessor.transform_features(
            {PipelineFeatureType.OBSERVATION: policy_features(features), PipelineFeatureType.ACTION: {}}
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Mismatch(f"the policy's preprocessor refuses the robot's features: {error}") from None
    seen: PolicyFeatures = transformed.get(PipelineFeatureType.OBSERVATION, {})
    return seen


def _scaled(
    join: Join,
    offered: dict[str, Feature],
    given: PolicyFeatures,
    inputs: PolicyFeatures,
    preprocessor: TransformsFeatures,
) -> tuple[dict[str, Feature], PolicyFeatures]:
    """Pictures at the policy's size, where the client scales them."""
    if not join.resize:
        return offered, given
    for name, feature in list(offered.items()):
        target = inputs.get(join.rename_map.get(name, name))
        if feature.is_picture and target is not None and len(target.shape) == 3:
            channels, height, width = target.shape
            if channels == feature.shape[2]:
                offered[name] = Feature(feature.dtype, (height, width, channels))
    return offered, _after(offered, preprocessor)


def _problem(name: str, feature: PolicyFeature, given: PolicyFeatures) -> str:
    """What is wrong with one input of the policy; empty when nothing is."""
    if name not in given:
        # Vision-language-action policies declare places for cameras that need not be there.
        return "" if ".empty_camera_" in name else f"`{name}` {list(feature.shape)} is missing"
    if tuple(given[name].shape) != tuple(feature.shape):
        return f"`{name}` is {list(given[name].shape)}, the policy takes {list(feature.shape)}"
    return ""


def _explain(problems: list[str], join: Join, given: PolicyFeatures) -> str:
    has = ", ".join(f"`{name}` {list(feature.shape)}" for name, feature in given.items()) or "nothing"
    remedies = []
    if any("images" in problem and "missing" in problem for problem in problems):
        remedies.append(
            "add the camera under that name in `--robot.cameras`, or map names with `--rename-map`"
        )
    if any("images" in problem and " is [" in problem for problem in problems) and not join.resize:
        remedies.append("set the camera's width and height, or scale with `--resize-images`")
    if not remedies:
        remedies.append("use the robot and sensors the policy was trained with")
    return f"{'; '.join(problems)}. The robot gives {has}: {'; '.join(remedies)}"


def _is_needed(
    name: str, offered: Mapping[str, Feature], inputs: PolicyFeatures, preprocessor: TransformsFeatures
) -> bool:
    """Whether an input of the policy is lost without this feature."""
    rest = {other: feature for other, feature in offered.items() if other != name}
    try:
        without = _after(rest, preprocessor)
    except Mismatch:
        return True
    given = _after(offered, preprocessor)
    return any(key in given and key not in without for key in inputs)
