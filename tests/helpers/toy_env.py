# SPDX-License-Identifier: Apache-2.0
"""A healthy toy environment: a point that moves by what it is told, for five steps."""

from dataclasses import dataclass, field

import gymnasium as gym
import numpy as np
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig

GYM_ID = "toy_env/Point-v0"
FPS = 20


class ToyEnv(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012

    def __init__(self, render_mode="rgb_array"):
        self.render_mode = render_mode
        self.task, self.task_description = "reach", "Reach the goal."
        self._max_episode_steps = 5
        box = gym.spaces.Box(-100, 100, (2,), np.float32)
        self.observation_space = gym.spaces.Dict({"agent_pos": box})
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.n_steps = 0
        return self.observe(), {"is_success": False}

    def observe(self):
        return {"agent_pos": self.place.copy()}

    def step(self, action):
        self.place = np.clip(self.place + action, -100, 100).astype(np.float32)
        self.n_steps += 1
        over = self.n_steps >= self._max_episode_steps
        return self.observe(), float(-np.abs(self.place).sum()), False, over, {"is_success": False}

    def render(self):
        return np.zeros((8, 10, 3), np.uint8)


gym.register(GYM_ID, entry_point=ToyEnv)


@EnvConfig.register_subclass("toy_env")
@dataclass
class ToyEnvConfig(EnvConfig):
    task: str | None = "reach"
    fps: int = FPS
    speed: int = 1
    gym_id: str = GYM_ID
    features: dict[str, PolicyFeature] = field(
        default_factory=lambda: {
            "action": PolicyFeature(FeatureType.ACTION, (2,)),
            "agent_pos": PolicyFeature(FeatureType.STATE, (2,)),
        }
    )
    features_map: dict[str, str] = field(
        default_factory=lambda: {"action": "action", "agent_pos": "observation.state"}
    )

    def __post_init__(self):
        self.check()

    def check(self):
        if self.speed <= 0:
            raise ValueError(f"`speed` ({self.speed}) must be positive.")

    @property
    def gym_kwargs(self):
        return {}
