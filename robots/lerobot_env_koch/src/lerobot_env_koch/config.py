# SPDX-License-Identifier: Apache-2.0
"""`--env.type=koch`: the environment's options, as the stock CLIs see them. No MuJoCo in here."""

import multiprocessing
from dataclasses import dataclass, field
from typing import Any, Final, cast

import gymnasium as gym
from draccus.utils import DecodingError
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_IMAGES, OBS_STATE

from lerobot_env_koch.constants import CAMERAS, DEPTH_CAMERAS, ENVIRONMENT_STATE_NAMES, FPS, JOINT_NAMES
from lerobot_env_koch.gym_id import GYM_ID
from lerobot_env_koch.rendering import check_renderer, resolve_renderer
from lerobot_env_koch.tasks import Region, check_belt, check_depth, check_task

OBSERVATIONS: Final = ("state", "pixels", "state_pixels")
REWARDS: Final = ("sparse", "dense")


def _check_choice(field_name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"`{field_name}` is {value!r}; choose one of {', '.join(choices)}.")


@EnvConfig.register_subclass("koch")
@dataclass
class KochEnvConfig(EnvConfig):
    """A simulated Koch v1.1 follower at a table with a cube.

    Args:
        task (`str`, *optional*, defaults to `"lift"`): `reach`, `lift`, `place`, `tour`,
            `choose`, `either` or `around`.
        fps (`int`, *optional*, defaults to `30`): Frames a second; the arm is modelled for 30 only.
        obs (`str`, *optional*, defaults to `"state"`): `state` is joints and environment state, `pixels` is
            joints and both cameras (what a real arm has), `state_pixels` is all three.
        reward (`str`, *optional*, defaults to `"sparse"`): `sparse` is 1 at success, `dense` adds shaping.
        episode_length (`int`, *optional*, defaults to `150`): Frames until an episode is cut off.
        image_height (`int`, *optional*, defaults to `96`): Rows of the cameras.
        image_width (`int`, *optional*, defaults to `96`): Columns of the cameras.
        render_height (`int`, *optional*, defaults to `240`): Rows of the videos that `lerobot-eval` writes.
        render_width (`int`, *optional*, defaults to `320`): Columns of those videos.
        renderer (`str`, *optional*, defaults to `"auto"`): `auto`, `mujoco` or `painter`. A policy that sees
            pictures must be evaluated with the renderer its dataset was drawn with, so with cameras `auto` is
            replaced by what it means on this machine and saved that way.
        region (`Region`, *optional*): Where the cube starts.
        belt_m_s (`float`, *optional*, defaults to `0.0`): Speed of the table's top, a conveyor belt, to the
            arm's right.
        depth (`bool`, *optional*, defaults to `False`): Depth maps of both cameras too, `top_depth` and
            `wrist_depth`, see `lerobot_env_koch.depth`.

    Raises:
        DecodingError: If a field has no meaning; names the field, the value and the valid ones. (Draccus' own
        error:
            of any other the stock CLIs would show a traceback without the reason.)
    """

    task: str | None = "lift"
    fps: int = FPS
    # What comes in and what is rewarded
    obs: str = "state"
    reward: str = "sparse"
    episode_length: int = 150
    # Pictures
    image_height: int = 96
    image_width: int = 96
    render_height: int = 240
    render_width: int = 320
    renderer: str = "auto"
    # Where the cube starts
    region: Region = field(default_factory=Region)
    # A table whose top travels
    belt_m_s: float = 0.0
    # Depth cameras
    depth: bool = False

    def __post_init__(self) -> None:
        try:
            self._check()
        except ValueError as error:
            raise DecodingError(("env",), str(error)) from error
        if self.uses_pixels and self.renderer == "auto":
            self.renderer = resolve_renderer("auto")
        self._declare_features()

    def _check(self) -> None:
        check_task(self.task or "")
        _check_choice("obs", self.obs, OBSERVATIONS)
        _check_choice("reward", self.reward, REWARDS)
        check_renderer(self.renderer)
        if self.fps != FPS:
            raise ValueError(
                f"`fps` is {self.fps}; the simulated arm is driven at {FPS} frames a second only."
            )
        for name in ("episode_length", "image_height", "image_width", "render_height", "render_width"):
            least = 1 if name == "episode_length" else 8
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` is {getattr(self, name)}; give at least {least}.")
        self.region.check()
        check_belt(self.belt_m_s)
        check_depth(self.depth, self.obs)

    def _declare_features(self) -> None:
        joints = (len(JOINT_NAMES),)
        self.features = {
            ACTION: PolicyFeature(type=FeatureType.ACTION, shape=joints),
            "agent_pos": PolicyFeature(type=FeatureType.STATE, shape=joints),
        }
        self.features_map = {ACTION: ACTION, "agent_pos": OBS_STATE}
        if self.uses_environment_state:
            shape = (len(ENVIRONMENT_STATE_NAMES),)
            self.features["environment_state"] = PolicyFeature(type=FeatureType.ENV, shape=shape)
            self.features_map["environment_state"] = OBS_ENV_STATE
        if self.uses_pixels:
            for camera in CAMERAS:
                picture = PolicyFeature(
                    type=FeatureType.VISUAL, shape=(self.image_height, self.image_width, 3)
                )
                self.features[f"pixels/{camera}"] = picture
                self.features_map[f"pixels/{camera}"] = f"{OBS_IMAGES}.{camera}"
        if self.depth:
            for camera in DEPTH_CAMERAS:
                depth_map = PolicyFeature(
                    type=FeatureType.VISUAL, shape=(1, self.image_height, self.image_width)
                )
                self.features[f"images.{camera}"] = depth_map
                self.features_map[f"images.{camera}"] = f"{OBS_IMAGES}.{camera}"

    @property
    def uses_environment_state(self) -> bool:
        """Whether observations hold the cube's and the goal's place."""
        return self.obs in ("state", "state_pixels")

    @property
    def uses_pixels(self) -> bool:
        """Whether observations hold the cameras."""
        return self.obs in ("pixels", "state_pixels")

    @property
    def package_name(self) -> str:
        """What to import to have the environment registered."""
        return "lerobot_env_koch"

    @property
    def gym_id(self) -> str:
        """Gymnasium's name of the environment."""
        return GYM_ID

    def create_envs(
        self, n_envs: int, use_async_envs: bool = False
    ) -> dict[str, dict[int, gym.vector.VectorEnv[Any, Any, Any]]]:
        """{"koch": {0: vector environment}}, see LeRobot's `EnvConfig.create_envs`."""
        if use_async_envs and n_envs > 1:
            # Each worker must import LeRobot to unpickle this config; so the server that forks them does it
            # once. `__main__` is what Python preloads by itself.
            multiprocessing.set_forkserver_preload(["__main__", "lerobot_env_koch.environment"])
        return cast(
            dict[str, dict[int, gym.vector.VectorEnv[Any, Any, Any]]],
            super().create_envs(n_envs, use_async_envs),
        )

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """What `KochEnv` is made with."""
        return {
            "task": self.task,
            "obs": self.obs,
            "reward": self.reward,
            "episode_length": self.episode_length,
            "image_size": (self.image_height, self.image_width),
            "render_size": (self.render_height, self.render_width),
            "renderer": self.renderer,
            "region": self.region,
            "belt_m_s": self.belt_m_s,
            "depth": self.depth,
        }
