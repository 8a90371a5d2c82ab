# SPDX-License-Identifier: Apache-2.0
"""The gymnasium front of the bench: `KochEnv`, registered as `lerobot_env_koch/Koch-v0`."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lerobot_env_koch.constants import (
    CAMERAS,
    DEPTH_CAMERAS,
    ENVIRONMENT_STATE_NAMES,
    FPS,
    JOINT_NAMES,
    LIFT_HEIGHT_M,
    TASK_DESCRIPTIONS,
)
from lerobot_env_koch.depth import FARTHEST_M, MM_PER_M
from lerobot_env_koch.physics import KochWorld
from lerobot_env_koch.sides import SIDE_TASKS
from lerobot_env_koch.tasks import Region, check_depth, check_task
from lerobot_env_koch.units import UNIT_HIGH, UNIT_LOW, quantize, rad_to_units, units_to_rad

Observation = dict[str, Any]


class KochEnv(gym.Env[Observation, NDArray[np.float32]]):
    """One task on the simulated bench, 30 steps a second.

    An action is six absolute joint targets in LeRobot units (body joints -100..100, gripper 0..100), as the
    stock `koch_follower` takes them; values beyond are clipped. Observations depend on `obs`:

    - `agent_pos`: (6,) float32, joint positions in LeRobot units with a servo's resolution; always.
    - `environment_state`: (7,) float32, `ENVIRONMENT_STATE_NAMES` in m and rad; with `state` and
    `state_pixels`.
    - `pixels`: `top` and `wrist`, (height, width, 3) uint8; with `pixels` and `state_pixels`.
    - `images.top_depth`, `images.wrist_depth`: (1, height, width) uint16, millimetres along the camera's
    axis, 0 where nothing was measured; with `depth`. Not among `pixels`, which have to be bytes for LeRobot's
    `preprocess_observation`; it hands on these as `observation.images.…`, float32 and otherwise unchanged, as
    datasets give them.

    An episode ends with success (`info["is_success"]`), in `choose` also at the wrong side, in `around` at
    the goal, or is cut off after `episode_length` steps. `task_description` is what a policy is told; in
    `choose` each episode has its own.

    Rewards: `sparse` is 1 in the step that succeeds, else 0. `dense` adds, in every step, for reach `1 -
    tanh(10 d)` of the distance d (m) from tip to goal; for lift 0.4 of that for tip and cube plus 0.6 of the
    share of the height; for place 0.3 of that for tip and cube (all of it once the cube is over the bin) plus
    0.7 of that for cube and bin.

    Args:
        task (`str`, *optional*, defaults to `"lift"`): one of `TASKS`.
        obs (`str`, *optional*, defaults to `"state"`): `state`, `pixels` or `state_pixels`.
        reward (`str`, *optional*, defaults to `"sparse"`): `sparse` or `dense`.
        episode_length (`int`, *optional*, defaults to `150`): Steps until an episode is cut off.
        image_size (`tuple[int, int]`, *optional*, defaults to `(96, 96)`): Height and width of the cameras.
        render_size (`tuple[int, int]`, *optional*, defaults to `(240, 320)`): Height and width of `render()`.
        renderer (`str`, *optional*, defaults to `"auto"`): `auto`, `mujoco` or `painter`.
        region (`Region`, *optional*): Where the cube starts.
        belt_m_s (`float`, *optional*, defaults to `0.0`): Speed of the table's top to the arm's right.
        depth (`bool`, *optional*, defaults to `False`): Depth maps of both cameras too.
        render_mode (`str`, *optional*, defaults to `"rgb_array"`): `rgb_array` only.

    Raises:
        ValueError: If an argument has no meaning; names it and the valid values.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012 (gymnasium's contract)

    def __init__(
        self,
        task: str = "lift",
        obs: str = "state",
        reward: str = "sparse",
        episode_length: int = 150,
        image_size: tuple[int, int] = (96, 96),
        render_size: tuple[int, int] = (240, 320),
        renderer: str = "auto",
        region: Region | None = None,
        belt_m_s: float = 0.0,
        depth: bool = False,
        render_mode: str = "rgb_array",
    ) -> None:
        self.task = check_task(task)
        self.task_description = TASK_DESCRIPTIONS[task]
        if obs not in ("state", "pixels", "state_pixels"):
            raise ValueError(f"`obs` is {obs!r}; choose one of state, pixels, state_pixels.")
        if reward not in ("sparse", "dense"):
            raise ValueError(f"`reward` is {reward!r}; choose one of sparse, dense.")
        if render_mode != "rgb_array":
            raise ValueError(
                f"`render_mode` is {render_mode!r}; the Koch environment renders rgb_array only."
            )
        self.render_mode = render_mode
        self._obs = obs
        self._depth = check_depth(depth, obs)
        self._dense = reward == "dense"
        self._max_episode_steps = episode_length  # LeRobot asks for it by this name
        self._image_size = image_size
        self._render_size = render_size
        self.world = KochWorld(region, renderer, belt_m_s)
        self._steps = 0
        self.observation_space = self._make_observation_space()
        self.action_space = spaces.Box(UNIT_LOW.astype(np.float32), UNIT_HIGH.astype(np.float32))

    def _make_observation_space(self) -> spaces.Dict:
        n = len(JOINT_NAMES)
        # A joint pushed into its stop is measured a little beyond it.
        entries: dict[str, spaces.Space[Any]] = {
            "agent_pos": spaces.Box(
                UNIT_LOW.astype(np.float32) - 20, UNIT_HIGH.astype(np.float32) + 20, (n,), np.float32
            )
        }
        if self._obs != "pixels":
            shape = (len(ENVIRONMENT_STATE_NAMES),)
            entries["environment_state"] = spaces.Box(-np.inf, np.inf, shape, np.float32)
        if self._obs != "state":
            picture = spaces.Box(0, 255, (*self._image_size, 3), np.uint8)
            entries["pixels"] = spaces.Dict(dict.fromkeys(CAMERAS, picture))
        if self._depth:
            depth_map = spaces.Box(0, round(FARTHEST_M * MM_PER_M), (1, *self._image_size), np.uint16)
            entries |= {f"images.{camera}": depth_map for camera in DEPTH_CAMERAS}
        return spaces.Dict(entries)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; the same seed gives the same start."""
        super().reset(seed=seed)
        self.world.reset(self.task, self.np_random)
        self.task_description = self.world.instruction
        self._steps = 0
        return self._observe(), {"is_success": False}

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Drive the arm for one frame.

        Args:
            action (`NDArray[np.float32]`): (6,) joint targets in LeRobot units.

        Raises:
            ValueError: If the action has the wrong shape or a value that is not finite.
        """
        self.world.set_targets(
            units_to_rad(np.clip(np.asarray(action, dtype=np.float64), UNIT_LOW, UNIT_HIGH))
        )
        self.world.step(1 / FPS)
        self._steps += 1
        success = self.world.success()
        reward = float(success) + (self._shaping() if self._dense else 0.0)
        failed = self.world.failure()
        truncated = not (success or failed) and self._steps >= self._max_episode_steps
        return self._observe(), reward, success or failed, truncated, {"is_success": success}

    def render(self) -> NDArray[np.uint8]:
        """The `top` camera in `render_size`, for videos."""
        return self.world.render("top", *self._render_size)

    def close(self) -> None:
        """Free the renderer."""
        self.world.close()

    def _observe(self) -> Observation:
        measured = rad_to_units(quantize(self.world.joint_positions)).astype(np.float32)
        observation: Observation = {"agent_pos": measured}
        if self._obs != "pixels":
            observation["environment_state"] = self.world.environment_state().astype(np.float32)
        if self._obs != "state":
            observation["pixels"] = {
                camera: self.world.render(camera, *self._image_size) for camera in CAMERAS
            }
        if self._depth:
            for camera, name in zip(CAMERAS, DEPTH_CAMERAS, strict=True):
                observation[f"images.{name}"] = self.world.depth(camera, *self._image_size)[None]
        return observation

    def _shaping(self) -> float:
        def near(distance_m: float) -> float:
            return 1.0 - math.tanh(10.0 * distance_m)

        missing = self.world.goal_distance()
        if self.task in ("reach", "tour", *SIDE_TASKS):
            return near(missing)
        at_cube = near(float(np.linalg.norm(self.world.gripper_tip() - self.world.cube_position())))
        if self.task == "lift":
            return 0.4 * at_cube + 0.6 * (1.0 - missing / LIFT_HEIGHT_M)
        return 0.3 * (1.0 if missing < 0.03 else at_cube) + 0.7 * near(missing)
