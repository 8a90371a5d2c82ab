# SPDX-License-Identifier: Apache-2.0
"""A point that has to walk to the right, logs of it, and a small LAPO that has learned nothing yet."""

from dataclasses import dataclass, field
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.envs.configs import EnvConfig
from lerobot.policies.factory import make_policy, make_pre_post_processors

GYM_ID = "toy_online/Walk-v0"
FPS = 10
CAMERA = "observation.images.top"


class Walk(gym.Env):
    """Moves by what it is told; succeeds beyond 1, is cut off after eight steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012

    def __init__(self, pays=1.0, pixels=False, render_mode="rgb_array"):
        self.render_mode, self.pays, self.pixels = render_mode, pays, pixels
        self.task, self.task_description = "walk", "Walk to the right."
        self._max_episode_steps = 8
        seen = {"agent_pos": gym.spaces.Box(-10, 10, (2,), np.float32)}
        if pixels:
            seen["pixels"] = gym.spaces.Dict({"top": gym.spaces.Box(0, 255, (32, 48, 3), np.uint8)})
        self.observation_space = gym.spaces.Dict(seen)
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-0.5, 0.5, 2).astype(np.float32)
        self.n_steps = 0
        return self.observe(), {"is_success": False}

    def observe(self):
        seen = {"agent_pos": self.place.copy()}
        if self.pixels:
            picture = np.zeros((32, 48, 3), np.uint8)
            picture[:, : int(np.clip(24 + 10 * self.place[0], 0, 48))] = 200
            seen["pixels"] = {"top": picture}
        return seen

    def step(self, action):
        self.place = np.clip(self.place + 0.3 * np.asarray(action), -10, 10).astype(np.float32)
        self.n_steps += 1
        success = bool(self.place[0] > 1)
        over = not success and self.n_steps >= self._max_episode_steps
        return self.observe(), self.pays * success, success, over, {"is_success": success}

    def render(self):
        return np.zeros((8, 10, 3), np.uint8)


gym.register(GYM_ID, entry_point=Walk)


@EnvConfig.register_subclass("toy_walk")
@dataclass
class WalkConfig(EnvConfig):
    task: str | None = "walk"
    fps: int = FPS
    pays: float = 1.0
    pixels: bool = False
    gym_id: str = GYM_ID
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.features = {
            "action": PolicyFeature(FeatureType.ACTION, (2,)),
            "agent_pos": PolicyFeature(FeatureType.STATE, (2,)),
        }
        self.features_map = {"action": "action", "agent_pos": "observation.state"}
        if self.pixels:
            self.features["pixels/top"] = PolicyFeature(FeatureType.VISUAL, (32, 48, 3))
            self.features_map["pixels/top"] = CAMERA

    @property
    def gym_kwargs(self):
        return {"pays": self.pays, "pixels": self.pixels}


def write_logs(root: Path, *, episodes: int = 12, seed: int = 0, video: bool = False) -> Path:
    """Walks at random, with rewards and ends, some of which succeed."""
    env, rng = Walk(pixels=video), np.random.default_rng(seed)
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["dx", "dy"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
    }
    if video:
        features[CAMERA] = {"dtype": "video", "shape": (32, 48, 3), "names": ["height", "width", "channels"]}
    encoder = {}
    if video:
        from lerobot.configs import RGBEncoderConfig

        encoder["rgb_encoder"] = RGBEncoderConfig(vcodec="h264")
    dataset = LeRobotDataset.create(
        "local/walks", FPS, features, root=root, use_videos=video, video_backend="pyav", **encoder
    )
    for episode in range(episodes):
        seen, _ = env.reset(seed=1000 + episode)
        over = False
        while not over:
            action = np.clip(rng.uniform(-1, 1, 2) + 0.5, -1, 1).astype(np.float32)
            frame = {"observation.state": seen["agent_pos"], "action": action, "task": env.task_description}
            if video:
                frame[CAMERA] = seen["pixels"]["top"]
            seen, reward, ended, cut, info = env.step(action)
            over = ended or cut
            frame["next.reward"] = np.array([reward], np.float32)
            frame["next.done"] = np.array([over])
            frame["next.success"] = np.array([info["is_success"]])
            dataset.add_frame(frame)
        dataset.save_episode()
    dataset.finalize()
    return root


def write_checkpoint(folder: Path, logs: Path, **options) -> Path:
    """A `pretrained_model` of random weights with the statistics of the logs; without optimizer."""
    from lerobot_policy_lapo import LAPOConfig

    dataset = LeRobotDataset("local/walks", root=logs, video_backend="pyav")
    torch.manual_seed(0)
    config = LAPOConfig(
        device="cpu",
        hidden_dim=16,
        obs_feature_dim=16,
        image_feature_dim=16,
        image_size=(32, 48),
        chunk_size=3,
        n_action_steps=2,
        push_to_hub=False,
        **options,
    )
    policy = make_policy(config, ds_meta=dataset.meta)
    policy.save_pretrained(folder)
    for pipeline in make_pre_post_processors(policy.config, dataset_stats=dataset.meta.stats):
        pipeline.save_pretrained(folder)
    return folder


SMALL = {
    "online_steps": 30,
    "warmup_steps": 10,
    "batch_size": 6,
    "n_envs": 2,
    "eval_freq": 25,
    "eval_episodes": 2,
    "save_freq": 15,
    "log_freq": 1,
}
"""Settings of a run that takes a few seconds."""


def words(checkpoint, logs, *more):
    return [
        f"--policy.path={checkpoint}",
        "--env.type=toy_walk",
        "--dataset.repo_id=local/walks",
        f"--dataset.root={logs}",
        "--dataset.video_backend=pyav",
        *more,
    ]
