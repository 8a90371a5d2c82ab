# SPDX-License-Identifier: Apache-2.0
"""EnvContract: a healthy toy keeps it; of each broken one exactly the rule that it breaks is told."""

import multiprocessing

import gymnasium as gym
import numpy as np
import pytest
from broken_plugins import broken_configs, failures, rule_names, variant
from broken_plugins import with_config as config_variant
from lerobot.configs import FeatureType, PolicyFeature
from toy_env import ToyEnv, ToyEnvConfig

from lerobot_ext.testing import EnvContract
from lerobot_ext.testing.contract import Outcome

WORKERS = "runs-in-worker-processes"


class Healthy(EnvContract):
    def make_config(self):
        return ToyEnvConfig()

    def bad_settings(self):
        return {"speed": 0}


class NeedsMore(ToyEnv):
    def __init__(self, render_mode="rgb_array"):
        import simulator_that_is_not_there  # noqa: F401


gym.register("toy_env/NeedsMore-v0", entry_point=NeedsMore)


def with_config(**fields):
    return type("Broken", (Healthy,), {"make_config": lambda self: ToyEnvConfig(**fields)})


def broken(**members):
    """The toy with some members exchanged, under a gymnasium id of its own."""
    env = type("BrokenEnv", (ToyEnv,), members)
    name = f"toy_env/Broken{len(gym.registry)}-v0"
    gym.register(name, entry_point=env)
    return with_config(gym_id=name)


def init(**attributes):
    def __init__(self, render_mode="rgb_array"):  # noqa: N807
        ToyEnv.__init__(self, render_mode)
        vars(self).update(attributes)

    return __init__


def only_one(self, n_envs, use_async_envs=False):
    return ToyEnvConfig.create_envs(self, 1, use_async_envs)


def no_task(self, render_mode="rgb_array"):
    ToyEnv.__init__(self, render_mode)
    del self.task_description


def with_a_past(self, *, seed=None, options=None):
    """Each environment of this class that is made starts elsewhere than the one before."""
    if not hasattr(self, "past"):
        ToyEnv.n_made = getattr(ToyEnv, "n_made", 0) + 1
        self.past = ToyEnv.n_made
    ToyEnv.reset(self, seed=seed)
    self.place += np.float32(self.past)
    return self.observe(), {"is_success": False}


def no_success(self, action):
    return *ToyEnv.step(self, action)[:4], {}


def endless(self, action):
    observation, reward = ToyEnv.step(self, action)[:2]
    return observation, reward, False, False, {"is_success": False}


def count_episodes(self, *, seed=None, options=None):
    self.episodes = getattr(self, "episodes", 0) + (seed is None)
    return ToyEnv.reset(self, seed=seed)


def first_episode_only(self, action):
    if self.episodes and self.played:
        raise RuntimeError("the simulator is gone")
    result = ToyEnv.step(self, action)
    self.played = self.n_steps >= 5
    return result


def close_once(self):
    if getattr(self, "closed", False):
        raise RuntimeError("already closed")
    self.closed = True


def other_in_workers(self):
    here = multiprocessing.parent_process() is None
    return {"agent_pos": self.place if here else np.zeros(2, np.float32)}


class OtherInWorkers(ToyEnv):
    observe = other_in_workers


FEATURES = ToyEnvConfig().features
STATE = PolicyFeature(FeatureType.ENV, (3,))
BROKEN = {
    "features-are-mapped": with_config(features_map={"action": "action", "agent_pos": "state"}),
    "requirements-are-installed": with_config(gym_id="toy_env/NeedsMore-v0"),
    "makes-a-vector-env": config_variant(Healthy, variant(ToyEnvConfig, "Lonely", create_envs=only_one)),
    "resets-as-lerobot-resets": broken(reset=lambda self, *, seed=None: ToyEnv.reset(self, seed=seed)),
    "passes-the-checker-of-gymnasium": broken(
        observe=lambda self: {"agent_pos": self.place.astype(np.float64)}
    ),
    "observations-cover-the-features": with_config(
        features={**FEATURES, "environment_state": STATE},
        features_map={**ToyEnvConfig().features_map, "environment_state": "observation.environment_state"},
    ),
    "action-space-fits-its-feature": with_config(
        features={**FEATURES, "action": PolicyFeature(FeatureType.ACTION, (3,))}
    ),
    "tells-its-length": broken(__init__=init(_max_episode_steps=5.0)),
    "tells-its-frame-rate": with_config(fps=30),
    "names-its-task": broken(__init__=no_task),
    "renders-pictures": broken(render=lambda self: np.zeros((8, 10, 3), np.float32)),
    "repeats-itself-with-a-seed": broken(reset=with_a_past),
    "ends-within-its-length": broken(step=endless),
    "reports-success": broken(step=no_success),
    "goes-on-after-an-episode": broken(reset=count_episodes, step=first_episode_only, played=False),
    "closes-twice": broken(close=close_once),
    WORKERS: with_config(gym_id="toy_env/OtherInWorkers-v0"),
    **broken_configs(Healthy, ToyEnvConfig),
}
gym.register("toy_env/OtherInWorkers-v0", entry_point=OtherInWorkers)


@pytest.mark.slow
class TestHealthy(Healthy):
    pass


@pytest.mark.parametrize(
    "rule", [pytest.param(rule, marks=[pytest.mark.slow] * (rule == WORKERS)) for rule in sorted(BROKEN)]
)
def test_a_broken_environment_is_caught_by_exactly_its_rule(rule):
    contract = BROKEN[rule]
    if rule != WORKERS:
        # Starting workers takes seconds, and none of these environments is in their reach.
        workers = next(found for found in contract.rules() if found.name.endswith(WORKERS))
        contract.settle(Outcome(workers, "skipped"))
    assert failures(contract) == [rule]


def test_every_rule_has_a_broken_environment():
    assert set(BROKEN) == rule_names(EnvContract)
