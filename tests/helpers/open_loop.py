# SPDX-License-Identifier: Apache-2.0
"""A dataset of known numbers, and a policy whose error is known: it says what it sees, plus an offset."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_ext.evaluation.loading import Loaded

FPS = 10
NAMES = ["pan.pos", "lift.pos", "claw.pos"]
LENGTHS = (4, 7, 5)
TASKS = ("lift", "place", "lift")


def action_at(episode: int, frame: int) -> np.ndarray:
    """Pan moves one a frame, lift is the episode's number, the claw jumps at every third frame."""
    return np.array([frame, 10 * episode, 5.0 * (frame % 3 == 2)], np.float32)


def write_dataset(root: Path, camera: bool = False, joints: list[str] | None = None) -> Path:
    """Three episodes; the state is the action plus 2, `environment_state` the action itself."""
    names = NAMES if joints is None else joints
    features: dict[str, Any] = {
        key: {"dtype": "float32", "shape": (3,), "names": names}
        for key in ("observation.state", "observation.environment_state", "action")
    }
    if camera:
        features["observation.images.top"] = {
            "dtype": "image",
            "shape": (24, 32, 3),
            "names": ["height", "width", "channels"],
        }
    dataset = LeRobotDataset.create("user/known", FPS, features, root=root, use_videos=False)
    for episode, (length, task) in enumerate(zip(LENGTHS, TASKS, strict=True)):
        for frame in range(length):
            action = action_at(episode, frame)
            row = {"observation.state": action + 2, "observation.environment_state": action, "action": action}
            if camera:
                row["observation.images.top"] = np.full((24, 32, 3), 40 * episode + frame, np.uint8)
            dataset.add_frame({**row, "task": task})
        dataset.save_episode()
    dataset.finalize()
    return root


def shapes(camera: bool = False) -> dict[str, Any]:
    """Features of a policy for that dataset."""
    inputs = {
        "observation.state": PolicyFeature(FeatureType.STATE, (3,)),
        "observation.environment_state": PolicyFeature(FeatureType.ENV, (3,)),
    }
    if camera:
        inputs["observation.images.top"] = PolicyFeature(FeatureType.VISUAL, (3, 24, 32))
    return {"input_features": inputs, "output_features": {"action": PolicyFeature(FeatureType.ACTION, (3,))}}


class Pipeline:
    """Leaves everything as it is, and keeps what it was given."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def reset(self) -> None: ...

    def __call__(self, value: Any) -> Any:
        self.seen.append(value)
        return value


class Echo:
    """Says the action that it sees in `environment_state`, plus `offset`, for a whole chunk.

    Args:
        offset: Of each joint.
        n_action_steps: How many of a chunk it executes.
        horizon: Length of a chunk.
        history: Observations that it wants to see; more than 1 makes it remember.
    """

    def __init__(
        self, offset: tuple[float, ...], n_action_steps: int = 1, horizon: int = 1, history: int = 1
    ) -> None:
        self.config = SimpleNamespace(
            device="cpu",
            type="echo",
            image_features={},
            observation_delta_indices=list(range(1 - history, 1)),
            input_features={"observation.environment_state": PolicyFeature(FeatureType.ENV, (3,))},
        )
        self.offset = torch.tensor(offset)
        self.n_action_steps, self.horizon = n_action_steps, horizon
        self.resets = 0
        self.seen = 0
        self.reset()

    def reset(self) -> None:
        self.queue: list[torch.Tensor] = []
        self.resets += 1

    def predict_action_chunk(self, batch: dict[str, Any]) -> torch.Tensor:
        action = batch["observation.environment_state"] + self.offset
        return action[:, None].expand(-1, self.horizon, -1)

    def select_action(self, batch: dict[str, Any]) -> torch.Tensor:
        self.seen += 1
        if not self.queue:
            self.queue = list(self.predict_action_chunk(batch).unbind(1))[: self.n_action_steps]
        return self.queue.pop(0)


def loaded(policy: Any) -> Loaded:
    """A policy with pipelines that change nothing."""
    return Loaded("echo", Path("nowhere"), policy, Pipeline(), Pipeline(), [])
