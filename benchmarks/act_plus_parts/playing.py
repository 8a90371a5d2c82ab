# SPDX-License-Identifier: Apache-2.0
"""Play episodes with a delay between observation and chunk, in simulated time.

A tick is a frame of the control loop, 1/30 s. A plan that starts at a tick sees its observation and is there
`delay` ticks later, however long the machine took, so that a busy machine changes nothing.

- `sync`: the arm waits. It holds its last target while a chunk is planned.
- `rtc`: the arm goes on with the chunk it has. Planning starts as soon as no more than `chunk - run` actions
  are left; when the new chunk is there it replaces what is left, without the actions whose time has passed.
  This is `lerobot-rollout --inference.type=rtc`; what it hands over (the actions left, at most 10, and the
  delay) is handed over here. LeRobot refuses stock ACT there; here it plays all the same, as anyone would let
  it who wants no pauses.

All episodes of a cell are played side by side, since all plan at the same ticks.

Legend: `E` episodes, `T` chunk, `A` joints, `F` frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lerobot.envs.utils import preprocess_observation
from lerobot.rollout.inference.rtc import supports_rtc_inference
from lerobot_env_koch.environment import KochEnv
from numpy.typing import NDArray

FPS = 30
EXECUTION_HORIZON = 10
"""LeRobot's default: most actions left that a policy is handed."""
ARM = slice(0, 5)
"""The arm's joints; a gripper snaps shut, and should."""


@dataclass
class Played:
    """What an episode was like.

    Attributes:
        success (`bool`): Whether the task was done.
        frames (`int`): Its length.
        commands (`list[NDArray]`): (A,) targets, one a frame.
        seams (`list[int]`): Frames at which a new chunk took over from another. The first chunk starts the
            arm from rest: that step, as large with every policy, is no boundary.
    """

    success: bool = False
    frames: int = 0
    commands: list[NDArray[np.float32]] = field(default_factory=list)
    seams: list[int] = field(default_factory=list)


class Chunks:
    """The actions of the running chunk, of all episodes."""

    def __init__(self) -> None:
        self.planned: torch.Tensor | None = None  # (E, T, A) in the policy's space
        self.told: torch.Tensor | None = None  # (E, T, A) in the arm's units
        self.next = 0

    @property
    def left(self) -> int:
        """Actions left."""
        return 0 if self.told is None else self.told.shape[1] - self.next

    def replace(self, planned: torch.Tensor, told: torch.Tensor, late: int) -> None:
        """Go on with a new chunk, without its first `late` actions."""
        self.planned, self.told, self.next = planned[:, late:], told[:, late:], 0

    def left_over(self) -> torch.Tensor | None:
        """(E, EXECUTION_HORIZON, A) of the policy's space, filled up with zeros, as LeRobot hands it over."""
        if self.planned is None:
            return None
        rest = self.planned[:, self.next :][:, :EXECUTION_HORIZON]
        return torch.nn.functional.pad(rest, (0, 0, 0, EXECUTION_HORIZON - rest.shape[1]))

    def pop(self) -> torch.Tensor | None:
        """(E, A) the next action of each episode; None when none is left."""
        if self.told is None or not self.left:
            return None
        self.next += 1
        return self.told[:, self.next - 1]


def play(
    policy: Any,
    before: Any,
    after: Any,
    make_env: Callable[[], KochEnv],
    seeds: Iterable[int],
    mode: str,
    delay: int,
) -> list[Played]:
    """Play one episode for each seed of the environment.

    Args:
        policy (`PreTrainedPolicy`): To play with.
        before (`PolicyProcessorPipeline`): Its preprocessor.
        after (`PolicyProcessorPipeline`): Its postprocessor.
        make_env (`Callable[[], KochEnv]`): Makes an environment.
        seeds (`Iterable[int]`): Of the episodes.
        mode (`str`): `"sync"` or `"rtc"`.
        delay (`int`): Ticks from observation to chunk.
    """
    envs, seen = [], []
    for seed in seeds:
        env = make_env()
        seen.append(env.reset(seed=seed)[0])
        envs.append(env)
    played = [Played() for _ in envs]
    live, begun = list(range(len(envs))), False
    last = torch.from_numpy(np.stack([each["agent_pos"] for each in seen]))
    controller = (Sync if mode == "sync" else Rtc)(policy, before, after, delay)
    torch.manual_seed(0)
    while live:
        observation = {
            **preprocess_observation(_stacked(seen)),
            "task": [env.task_description for env in envs],
        }
        told, begins = controller.tick(observation)
        last = last if told is None else told
        for number in list(live):
            command = last[number].numpy().astype(np.float32)
            episode = played[number]
            if begins and begun:
                episode.seams.append(len(episode.commands))
            episode.commands.append(command)
            seen[number], _, ended, cut, info = envs[number].step(command)
            episode.frames += 1
            if ended or cut:
                episode.success = bool(info["is_success"])
                live.remove(number)
        begun = begun or begins
    for env in envs:
        env.close()
    return played


def _stacked(seen: list[dict[str, Any]]) -> dict[str, Any]:
    """Observations as gymnasium's vector environments give them."""
    return {
        name: _stacked([each[name] for each in seen])
        if isinstance(value, dict)
        else np.stack([each[name] for each in seen])
        for name, value in seen[0].items()
    }


class Sync:
    """The stock loop: `select_action` blocks while it plans, and the arm holds still."""

    def __init__(self, policy: Any, before: Any, after: Any, delay: int) -> None:
        self.policy, self.before, self.after, self.delay = policy, before, after, delay
        policy.reset()
        self._tick = 0
        self._waits: list[torch.Tensor] = []
        self._hold = 0

    @torch.no_grad()
    def tick(self, observation: dict[str, Any]) -> tuple[torch.Tensor | None, bool]:
        """(E, A) targets, None to hold still; and whether they begin a chunk."""
        if self._hold:
            self._hold -= 1
            return (None, False) if self._hold else (self._waits.pop(), True)
        begins = self._tick % self.policy.config.n_action_steps == 0
        self._tick += 1
        told = self.after(self.policy.select_action(self.before(observation)))
        if begins and self.delay:
            self._hold = self.delay
            self._waits.append(told)
            return None, False
        return told, begins


class Rtc:
    """LeRobot's real-time chunking loop."""

    def __init__(self, policy: Any, before: Any, after: Any, delay: int) -> None:
        self.policy, self.before, self.after, self.delay = policy, before, after, delay
        self.accepts = supports_rtc_inference(policy)
        policy.reset()
        self.chunks = Chunks()
        self._coming: tuple[int, torch.Tensor, torch.Tensor] | None = None
        self._now = 0
        self._threshold = policy.config.chunk_size - policy.config.n_action_steps

    @torch.no_grad()
    def tick(self, observation: dict[str, Any]) -> tuple[torch.Tensor | None, bool]:
        """(E, A) targets, None to hold still; and whether they begin a chunk."""
        if self._coming is None and self.chunks.left <= self._threshold:
            self._coming = (self._now + self.delay, *self._plan(observation))
        begins = False
        if self._coming is not None and self._coming[0] <= self._now:
            _, planned, told = self._coming
            # The first chunk of all was waited for: nothing of it has passed.
            late = self.delay if self.chunks.told is not None else 0
            self.chunks.replace(planned, told, late)
            self._coming, begins = None, True
        self._now += 1
        return self.chunks.pop(), begins

    def _plan(self, observation: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        given = self.before(observation)
        more: dict[str, Any] = {}
        if self.accepts:
            left = self.chunks.left_over()
            if left is not None and getattr(self.policy.config, "use_relative_actions", False):
                raise NotImplementedError("relative actions are left over in another frame")
            more = {"inference_delay": self.delay, "prev_chunk_left_over": left}
        planned = self.policy.predict_action_chunk(given, **more)
        return planned, self.after(planned.clone())


def boundary_jerk(played: Iterable[Played]) -> NDArray[np.float64]:
    """Jerk at each seam, in units/s³: root mean square over the arm's joints.

    Of the third differences that span a seam, three, the largest counts.
    """
    found = []
    for episode in played:
        commands = np.stack(episode.commands).astype(np.float64)[:, ARM]
        jerk = np.sqrt((np.diff(commands, n=3, axis=0) ** 2).mean(1)) * FPS**3
        for seam in episode.seams:
            span = jerk[max(0, seam - 3) : seam]
            if len(span):
                found.append(span.max())
    return np.array(found)


def latencies_ms(
    policy: Any, before: Any, after: Any, make_env: Callable[[], KochEnv], episodes: int = 3
) -> NDArray[np.float64]:
    """CPU milliseconds of each action of one robot: processors and `select_action`, on one thread."""
    found = []
    for seed in range(episodes):
        env = make_env()
        seen, _ = env.reset(seed=seed)
        policy.reset()
        for _ in range(60):
            observation = {**preprocess_observation(_stacked([seen])), "task": [env.task_description]}
            started = time.process_time()
            with torch.inference_mode():
                command = after(policy.select_action(before(observation)))[0]
            found.append((time.process_time() - started) * 1e3)
            seen, _, ended, cut, _ = env.step(command.numpy())
            if ended or cut:
                break
        env.close()
    return np.array(found[1:])  # the first one warms up
