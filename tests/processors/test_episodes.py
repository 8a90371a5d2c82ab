# SPDX-License-Identifier: Apache-2.0
"""Stock `lerobot-eval` starts each episode with steps that remember nothing of the last."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from lerobot.processor import DataProcessorPipeline, ProcessorStepRegistry
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
from lerobot.scripts import lerobot_eval
from lerobot_robot_processors import episodes
from lerobot_robot_processors.steps.frame_stack import FrameStackStep
from lerobot_robot_processors.steps.relative_actions import AbsoluteActionsStep, RelativeActionsStep
from toy_env import ToyEnv


class Remembered(torch.nn.Module):
    """A policy that stays where it is, and keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def reset(self):
        self.seen.append([])

    def select_action(self, batch):
        self.seen[-1].append(batch["observation.state"])
        return torch.zeros(len(batch["observation.state"]), 2)


@pytest.fixture(autouse=True)
def _stock_rollout():
    """LeRobot's own code; the plugin, imported above, has replaced it."""
    assert episodes._patch.installed
    episodes.uninstall()
    yield
    episodes.install()


def evaluated(n_episodes):
    env = gym.vector.SyncVectorEnv([ToyEnv])
    relative = RelativeActionsStep(n_action_steps=3)
    before = DataProcessorPipeline([relative, FrameStackStep(2)])
    after = DataProcessorPipeline(
        [AbsoluteActionsStep(relative_step=relative)],
        to_transition=policy_action_to_transition,
        to_output=transition_to_policy_action,
    )
    policy, plain = Remembered(), DataProcessorPipeline()
    for episode in range(n_episodes):
        lerobot_eval.rollout(env, policy, plain, DataProcessorPipeline(), before, after, seeds=[episode])
    return policy.seen


def crosses_over(seen):
    """Whether the second episode begins with a frame of the first."""
    first = seen[1][0][0]
    return not torch.equal(first[0], first[1])


def test_stock_carries_a_history_into_the_next_episode():
    assert crosses_over(evaluated(2))


def test_each_episode_begins_anew():
    episodes.install()
    assert not crosses_over(evaluated(2))


def test_the_plugin_installs_it_where_lerobot_evaluates():
    import lerobot_robot_processors

    lerobot_robot_processors._reset_between_episodes()
    assert lerobot_eval.rollout is not episodes._patch.stock("rollout")
    assert "lerobot_ext_frame_stack" in ProcessorStepRegistry.list()
    assert np.isfinite(evaluated(1)[0][0]).all()
