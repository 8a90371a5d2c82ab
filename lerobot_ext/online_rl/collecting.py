# SPDX-License-Identifier: Apache-2.0
"""Plays episodes with a policy, chunk by chunk, and keeps what the datasets of LeRobot keep.

Legend: `N` environments, `H` chunk, `A` action width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lerobot.envs.utils import NEW_ROLLOUT_OPTION, preprocess_observation
from lerobot.utils.constants import ACTION, DONE, OBS_PREFIX, REWARD, TRUNCATED
from lerobot.utils.random_utils import set_seed
from numpy.typing import NDArray
from torch import Tensor

from lerobot_ext.offline_rl.labels import SUCCESS
from lerobot_ext.offline_rl.learner import explorer

from .episode import Episode


class InterruptedRoundError(Exception):
    """The user wants to stop; the running episodes are lost."""


@dataclass(frozen=True)
class Pipelines:
    """LeRobot's four, around a policy in an environment."""

    env_pre: Any
    env_post: Any
    pre: Any
    post: Any


class Collector:
    """Plays rounds: one episode in each environment, until the last of them ends.

    Args:
        env: Gymnasium's vector environment, as LeRobot makes it.
        policy: What acts, as it explores.
        pipelines (`Pipelines`): Around it.
        noise (`float`, *optional*, defaults to `0.0`): Standard deviation of noise on normalised actions.
        stop (`Callable`, *optional*): Asked before each frame whether to give up.
    """

    def __init__(
        self,
        env: Any,
        policy: Any,
        pipelines: Pipelines,
        noise: float = 0.0,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.env, self.policy, self.pipelines, self.noise, self.stop = env, policy, pipelines, noise, stop
        self._low, self._high = _bounds(env)

    def round(self, seeds: list[int], seed: int) -> list[Episode]:
        """Play one episode in each environment.

        Args:
            seeds (`list[int]`): (N,) of the environments.
            seed (`int`): Of whatever the policy draws.

        Raises:
            InterruptedRoundError: `stop` said so.
            ValueError: The environment gives no number as reward.
        """
        set_seed(seed)
        with _acting(self.policy):
            self.policy.reset()
            observation, _ = self.env.reset(seed=seeds, options={NEW_ROLLOUT_OPTION: True})
            return self._play(observation)

    def _play(self, observation: Any) -> list[Episode]:
        count, limit = self.env.num_envs, int(self.env.call("_max_episode_steps")[0])
        frames: list[list[dict[str, Any]]] = [[] for _ in range(count)]
        tasks: list[list[str]] = [[] for _ in range(count)]
        over = np.zeros(count, bool)
        chunk: list[Tensor] = []
        for step in range(limit):
            if self.stop():
                raise InterruptedRoundError
            told = _instructions(self.env)
            seen = self.pipelines.env_pre({**preprocess_observation(observation), "task": told})
            if not chunk:
                chunk = self._plan(seen)
            action = self._executed(chunk.pop(0))
            before = _recorded(seen)
            observation, reward, terminated, truncated, info = self.env.step(self._sent(action))
            success = _successes(info, count)
            if step + 1 == limit:
                truncated = truncated | ~terminated
            for number in np.flatnonzero(~over):
                ended = bool(terminated[number] or truncated[number])
                frames[number].append(
                    {
                        **{key: values[number] for key, values in before.items()},
                        ACTION: action[number],
                        REWARD: np.float32(reward[number]),
                        DONE: np.bool_(ended),
                        TRUNCATED: np.bool_(ended and not terminated[number]),
                        SUCCESS: np.bool_(success[number]),
                    }
                )
                tasks[number].append(told[number])
            over |= terminated | truncated
            if over.all():
                break
        return [
            Episode({key: np.stack([frame[key] for frame in episode]) for key in episode[0]}, texts)
            for episode, texts in zip(frames, tasks, strict=True)
        ]

    @torch.no_grad()
    def _plan(self, seen: dict[str, Any]) -> list[Tensor]:
        """The actions to execute before the next plan, each (N, A), normalised."""
        chunk = explorer(self.policy)(self.pipelines.pre(dict(seen)))[:, : self.policy.config.n_action_steps]
        if self.noise > 0:
            chunk = chunk + self.noise * torch.randn_like(chunk)
        return list(chunk.unbind(1))

    def _executed(self, action: Tensor) -> NDArray[np.float32]:
        """(N, A) in the units of the data, within what the environment can execute: so it is recorded."""
        found: NDArray[np.float32] = self.pipelines.post(action).to("cpu").float().numpy()
        if self._low is not None and found.shape[1:] == self._low.shape:
            found = found.clip(self._low, self._high)
        return found.astype(np.float32)

    def _sent(self, action: NDArray[np.float32]) -> NDArray[Any]:
        sent: NDArray[Any] = self.pipelines.env_post({ACTION: torch.from_numpy(action)})[ACTION].numpy()
        return sent


@contextmanager
def _acting(policy: Any) -> Iterator[None]:
    training = policy.training
    policy.eval()
    try:
        yield
    finally:
        policy.train(training)
        policy.reset()


def _bounds(env: Any) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    space = env.single_action_space
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    return (None, None) if low is None or high is None else (low, high)


def _instructions(env: Any) -> list[str]:
    """(N,) what the policy is told, as LeRobot's own rollout asks for it."""
    for name in ("task_description", "task"):
        try:
            return [str(text) for text in env.call(name)]
        except (AttributeError, NotImplementedError):
            continue
    return [""] * int(env.num_envs)


def _recorded(seen: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Observations (N, …) as a dataset has them: pictures (N, H, W, C) uint8, depth maps in uint16."""
    found = {}
    for key, value in seen.items():
        if not key.startswith(OBS_PREFIX) or not isinstance(value, Tensor):
            continue
        if value.ndim == 4 and value.shape[1] == 1:
            found[key] = _depth_maps(key, value)
        elif value.ndim == 4:  # exact: LeRobot has divided bytes by 255
            found[key] = (value * 255).round().to(torch.uint8).movedim(1, -1).cpu().numpy().copy()
        else:
            found[key] = value.float().cpu().numpy().copy()
    return found


def _depth_maps(key: str, maps: Tensor) -> NDArray[np.uint16]:
    """(N, H, W, 1) whole millimetres of depth maps (N, 1, H, W), as a RealSense and LeRobot's datasets have.

    Raises:
        ValueError: They are no millimetres: in metres, or bytes that were divided by 255.
    """
    whole = maps.round()
    if not torch.equal(whole, maps) or whole.min() < 0 or whole.max() > np.iinfo(np.uint16).max:
        raise ValueError(
            f"`{key}` has one channel, and values from {maps.min():.6g} to {maps.max():.6g}; give depth maps "
            "in whole millimetres, 0 where nothing was measured, beside `pixels`, or give the picture three "
            "channels."
        )
    return whole.movedim(1, -1).cpu().numpy().astype(np.uint16)


def _successes(info: dict[str, Any], count: int) -> list[bool]:
    """(N,) whether each succeeded in this frame, where LeRobot's own rollout looks for it."""
    for place in (info.get("final_info"), info):
        if isinstance(place, dict) and "is_success" in place:
            found = place["is_success"]
            return [bool(value) for value in found] if hasattr(found, "__len__") else [bool(found)] * count
        if isinstance(place, (list, tuple, np.ndarray)):
            return [bool(isinstance(item, dict) and item.get("is_success")) for item in place]
    return [False] * count
