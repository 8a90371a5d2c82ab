# SPDX-License-Identifier: Apache-2.0
"""Where the arm is now, as far as a transition says so."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lerobot.processor import TransitionKey
from lerobot.utils.constants import OBS_STATE
from numpy.typing import NDArray

from ..joint_values import SUFFIX, to_array

FloatArray = NDArray[np.float64]


def present_joints(transition: Mapping[Any, Any], names: Sequence[str], streams: int) -> FloatArray | None:
    """The measured position of each joint, or None if the observation does not hold them all.

    Args:
        transition (`Mapping`): Its observation is a robot's dict (`<joint>.pos`) or a policy's, whose
            `observation.state` (B, D) counts only if it has as many columns as there are joints.
        names (`Sequence[str]`): The joints.
        streams (`int`): B.

    Returns:
        `FloatArray`: (B, D) in float64.
    """
    observation = transition.get(TransitionKey.OBSERVATION)
    if not isinstance(observation, Mapping):
        return None
    keys = [f"{name}{SUFFIX}" for name in names]
    if all(key in observation for key in keys):
        found = np.array([[float(observation[key]) for key in keys]])
    elif OBS_STATE in observation:
        found = np.atleast_2d(to_array(observation[OBS_STATE]))
    else:
        return None
    return found if found.shape == (streams, len(keys)) and bool(np.isfinite(found).all()) else None
