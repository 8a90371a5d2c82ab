# SPDX-License-Identifier: Apache-2.0
"""Real-time chunking: plan the next chunk while the last one is still being executed.

`lerobot-rollout --inference.type=rtc` plans in a thread and hands over the actions that are left of the last
chunk. Those that will have been executed before the new chunk comes are kept as they are, the following ones
count less and less up to the execution horizon, and the rest is free.
"""

from __future__ import annotations

import time

import torch
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot.policies.rtc.modeling_rtc import RTCProcessor
from torch import Tensor

from lerobot_ext.nn.left_over import left_over_actions

from .sampling import Committed


class FrameClock:
    """Counts the frames between two plans by the wall clock.

    Args:
        fps (`float`): Frames a second of the data; 0, unknown, counts every plan as the next frame.
    """

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self._last_s: float | None = None

    def reset(self) -> None:
        """Forget the last plan."""
        self._last_s = None

    def frames_since_last(self) -> int:
        """Frames since the last call, at least 1."""
        now = time.monotonic()
        before, self._last_s = self._last_s, now
        if before is None or self.fps <= 0:
            return 1
        return max(1, round((now - before) * self.fps))


def committed_actions(
    left_over: Tensor | None, delay: int, config: RTCConfig | None, horizon: int
) -> Committed | None:
    """What a new chunk has to continue.

    Args:
        left_over (`Tensor`, *optional*): (T, A) or (B, T, A) actions left of the last chunk, the next one
            first. LeRobot fills it up with rows of zeros, which are no actions.
        delay (`int`): Frames until the new chunk will be there.
        config (`RTCConfig`, *optional*): Schedule and execution horizon.
        horizon (`int`): Length H of a chunk.

    Returns:
        `Committed`; None where nothing is left.
    """
    actions = left_over_actions(left_over, horizon)
    if actions is None:
        return None
    count = actions.shape[1]
    config = config or RTCConfig()
    delay = min(delay, count)
    end = min(max(config.execution_horizon, delay), count)
    weights = RTCProcessor(config).get_prefix_weights(delay, end, horizon)
    whole = torch.zeros(len(actions), horizon, actions.shape[-1], device=actions.device, dtype=actions.dtype)
    whole[:, :count] = actions
    return Committed(whole, weights.to(whole))
