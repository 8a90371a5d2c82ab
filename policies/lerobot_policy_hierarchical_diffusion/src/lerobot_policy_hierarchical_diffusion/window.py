# SPDX-License-Identifier: Apache-2.0
"""Which frames the policy looks at, in training and at inference; pure bookkeeping, no torch.

Offsets are in frames, 0 is now. The past offsets come first, so that one set of positions serves both a
training batch (past and future) and the observation queue of a running robot (past only).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .configuration_hierarchical_diffusion import HierarchicalDiffusionConfig


@dataclass(frozen=True)
class TimeWindow:
    """Offsets of the frames and, for each use of them, their positions among the offsets.

    Args:
        offsets (`tuple[int, ...]`): All offsets, ascending.
        observation (`tuple[int, ...]`): Positions of the newest frames for encoder and manipulation layer.
        history (`tuple[int, ...]`): Positions of the consecutive states for safety.
        motion (`tuple[int, ...]`): Positions of the consecutive states for dynamics.
        memory (`tuple[int, ...]`): Positions of the strided states for planning.
        future (`tuple[int, ...]`): Positions of the next states, which safety and dynamics foresee.
        ahead (`tuple[int, ...]`): Positions of all future frames among which planning's subgoal lies.
    """

    offsets: tuple[int, ...]
    observation: tuple[int, ...]
    history: tuple[int, ...]
    motion: tuple[int, ...]
    memory: tuple[int, ...]
    future: tuple[int, ...]
    ahead: tuple[int, ...]

    @classmethod
    def from_config(cls, config: HierarchicalDiffusionConfig) -> TimeWindow:
        """Lay out the frames that `config` asks for."""
        observation = range(1 - config.n_obs_steps, 1)
        history = range(1 - config.history_steps, 1)
        motion = range(1 - config.dynamics_history, 1)
        memory = range(-config.planning_stride * (config.planning_history - 1), 1, config.planning_stride)
        future = range(1, config.future_steps + 1)
        ahead = range(1, config.subgoal_steps + 1)
        offsets = tuple(sorted({*observation, *history, *motion, *memory, *future, *ahead}))
        position = {offset: i for i, offset in enumerate(offsets)}
        return cls(
            offsets=offsets,
            observation=tuple(position[o] for o in observation),
            history=tuple(position[o] for o in history),
            motion=tuple(position[o] for o in motion),
            memory=tuple(position[o] for o in memory),
            future=tuple(position[o] for o in future),
            ahead=tuple(position[o] for o in ahead),
        )

    @property
    def past(self) -> tuple[int, ...]:
        """The offsets up to now."""
        return tuple(o for o in self.offsets if o <= 0)

    @property
    def queue_length(self) -> int:
        """Frames a running policy has to remember."""
        return 1 - self.offsets[0]
