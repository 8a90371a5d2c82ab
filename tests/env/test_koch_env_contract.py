# SPDX-License-Identifier: Apache-2.0
"""The Koch environment under the kit's contract: each task, and each kind of observation."""

from lerobot_env_koch import KochEnvConfig
from lerobot_env_koch.tasks import Region

from lerobot_ext.testing import EnvContract


class InThisProcess(EnvContract):
    """Without the rule that starts workers: starting them takes seconds, one environment does."""

    test_runs_in_worker_processes = None


class TestLiftFromState(InThisProcess):
    def make_config(self):
        return KochEnvConfig(episode_length=5)

    def bad_settings(self):
        return {"task": "lfit", "obs": "depth", "reward": "big", "fps": 50, "episode_length": 0}


class TestReachWithDenseReward(InThisProcess):
    def make_config(self):
        return KochEnvConfig(task="reach", reward="dense", episode_length=5)


class TestPlaceFromStateAndPixels(EnvContract):
    def make_config(self):
        return KochEnvConfig(
            task="place",
            obs="state_pixels",
            image_height=64,
            image_width=80,
            renderer="painter",
            episode_length=5,
            region=Region(yaw_rad=0.1),
        )


class TestReachFromDepth(EnvContract):
    def make_config(self):
        return KochEnvConfig(
            task="reach",
            obs="pixels",
            image_height=24,
            image_width=32,
            renderer="painter",
            episode_length=5,
            depth=True,
        )

    def bad_settings(self):
        return {"obs": "state"}


class TestLiftFromPixels(InThisProcess):
    def make_config(self):
        return KochEnvConfig(obs="pixels", renderer="painter", episode_length=5)
