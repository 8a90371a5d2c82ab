# SPDX-License-Identifier: Apache-2.0
"""Width of a network so that it has as many trained parameters as another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

TOLERANCE = 0.02
"""Two networks whose parameters differ by less than this are called matched."""


def closest_width(wanted: int, count: Callable[[int], int], widths: Iterable[int]) -> tuple[int, int]:
    """The width whose parameters come closest to `wanted`, and their number.

    Args:
        wanted (`int`): Parameters.
        count (`Callable[[int], int]`): Parameters of a width; grows with it.
        widths (`Iterable[int]`): To choose from.

    Raises:
        ValueError: There is no width.
    """
    ordered = sorted(set(widths))
    if not ordered:
        raise ValueError("`widths` is empty; give at least one.")
    low, high = 0, len(ordered) - 1
    known: dict[int, int] = {}

    def of(place: int) -> int:
        return known.setdefault(place, count(ordered[place]))

    while low < high:  # the first width with enough parameters
        middle = (low + high) // 2
        low, high = (low, middle) if of(middle) >= wanted else (middle + 1, high)
    best = min({low, max(0, low - 1)}, key=lambda place: abs(of(place) - wanted))
    return ordered[best], of(best)


def parameters(policy_type: str, fields: dict[str, Any], cameras: bool) -> int:
    """Trained parameters of a policy of LeRobot's with these fields on the Koch."""
    return trained_parameters(build(policy_type, fields, cameras))


def trained_parameters(policy: Any) -> int:
    """Parameters that a training changes; averaged copies of them do not count."""
    return sum(weights.numel() for weights in policy.parameters() if weights.requires_grad)


def build(policy_type: str, fields: dict[str, Any], cameras: bool, size: int = 96) -> Any:
    """An untrained policy for the Koch, as `lerobot-train` would build it on its datasets."""
    import lerobot_policy_hierarchical_diffusion  # noqa: F401 - registers the policy
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.factory import get_policy_class, make_policy_config
    from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_IMAGES, OBS_STATE
    from lerobot_env_koch.constants import CAMERAS, ENVIRONMENT_STATE_NAMES, JOINT_NAMES

    joints = (len(JOINT_NAMES),)
    inputs = {OBS_STATE: PolicyFeature(FeatureType.STATE, joints)}
    if cameras:
        pictures = PolicyFeature(FeatureType.VISUAL, (3, size, size))
        inputs |= {f"{OBS_IMAGES}.{name}": pictures for name in CAMERAS}
    else:
        inputs[OBS_ENV_STATE] = PolicyFeature(FeatureType.ENV, (len(ENVIRONMENT_STATE_NAMES),))
    outputs = {ACTION: PolicyFeature(FeatureType.ACTION, joints)}
    fields = {"device": "cpu", "push_to_hub": False} | fields
    config = make_policy_config(policy_type, input_features=inputs, output_features=outputs, **fields)
    return get_policy_class(policy_type)(config)
