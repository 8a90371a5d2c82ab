# SPDX-License-Identifier: Apache-2.0
"""A point that is led to a goal on a plane: what cloning learns in seconds, if it learns at all.

An action is where the point shall be next, as joint positions are; it moves towards it by at most `STRIDE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from torch import Tensor

STRIDE, NEAR = 0.2, 0.15
LENGTH = 16
"""Frames of an episode: the longest way takes 10."""
FEATURES = {
    "input_features": {
        "observation.state": PolicyFeature(FeatureType.STATE, (2,)),
        "observation.environment_state": PolicyFeature(FeatureType.ENV, (2,)),
    },
    "output_features": {"action": PolicyFeature(FeatureType.ACTION, (2,))},
}


def towards(position: Tensor, goal: Tensor) -> Tensor:
    """(B, 2) a stride from `position` on the straight way to `goal`."""
    way = goal - position
    return position + way * (STRIDE / way.norm(dim=-1, keepdim=True).clamp(min=STRIDE))


def starts(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(B, 2) positions and goals, at least two strides apart."""
    generator = torch.Generator().manual_seed(seed)
    position, goal = (torch.rand(4 * count, 2, generator=generator) * 1.6 - 0.8 for _ in range(2))
    far = (goal - position).norm(dim=-1) > 2 * STRIDE + NEAR
    return position[far][:count], goal[far][:count]


@dataclass(frozen=True)
class Demonstrations:
    """Straight ways, as a policy sees a dataset.

    Args:
        states (`Tensor`): (N, LENGTH, 2) positions.
        goals (`Tensor`): (N, LENGTH, 2).
        actions (`Tensor`): (N, LENGTH, 2).
    """

    states: Tensor
    goals: Tensor
    actions: Tensor
    fps: int = 30

    @classmethod
    def record(cls, count: int = 200, seed: int = 0) -> Demonstrations:
        """Led by somebody who knows the way."""
        position, goal = starts(count, seed)
        states, actions = [], []
        for _ in range(LENGTH):
            states.append(position)
            position = towards(position, goal)
            actions.append(position)
        return cls(torch.stack(states, 1), goal[:, None].expand(-1, LENGTH, -1), torch.stack(actions, 1))

    @property
    def episodes(self) -> dict[str, list[int]]:
        """Where they begin and end, as in a dataset's metadata."""
        ends = [LENGTH * (n + 1) for n in range(len(self.states))]
        return {"dataset_from_index": [end - LENGTH for end in ends], "dataset_to_index": ends}

    def batch(self, config: Any, size: int, rng: np.random.Generator) -> dict[str, Any]:
        """Windows around random frames, as the stock loader makes them for this configuration."""
        episode = torch.from_numpy(rng.integers(len(self.states), size=size))
        frame = torch.from_numpy(rng.integers(LENGTH, size=size))
        batch: dict[str, Any] = {
            "task": ["go"] * size,
            "index": episode * LENGTH + frame,
            "episode_index": episode,
        }
        columns = {"observation.state": self.states, "observation.environment_state": self.goals}
        seen, done = config.observation_delta_indices, config.action_delta_indices
        for name, column, offsets in [
            *((name, column, seen) for name, column in columns.items()),
            ("action", self.actions, done),
        ]:
            if offsets is None:
                batch[name] = column[episode, frame]
                continue
            at = frame[:, None] + torch.tensor(offsets)
            batch[name] = column[episode[:, None], at.clamp(0, LENGTH - 1)]
            batch[f"{name}_is_pad"] = (at < 0) | (at >= LENGTH)
        return batch


def train(policy: Any, demos: Demonstrations, steps: int, size: int = 64) -> Any:
    """Train as `lerobot-train` does, without its loader."""
    torch.set_num_threads(1)  # these networks are too small for more
    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    rng = np.random.default_rng(0)
    policy.train()
    for _ in range(steps):
        loss, _ = policy.forward(demos.batch(policy.config, size, rng))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if hasattr(policy, "update"):
            policy.update()
    return policy.eval()


def arrived(policy: Any, count: int = 50, seed: int = 1) -> float:
    """Share of points that a policy leads to their goals, from starts that no demonstration has."""
    torch.manual_seed(seed)
    position, goal = starts(count, 1000 + seed)
    policy.reset()
    for _ in range(LENGTH):
        seen = {"observation.state": position, "observation.environment_state": goal, "task": ["go"] * count}
        with torch.no_grad():
            position = towards(position, policy.select_action(seen))
    return float(((goal - position).norm(dim=-1) < NEAR).float().mean())
