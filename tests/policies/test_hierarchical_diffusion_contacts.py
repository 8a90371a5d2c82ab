# SPDX-License-Identifier: Apache-2.0
"""Contacts as targets of the dynamics layer, where a dataset tells them."""

from __future__ import annotations

import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot_policy_hierarchical_diffusion.modeling_hierarchical_diffusion import HierarchicalDiffusionPolicy

KEY = "observation.contact"


@pytest.fixture
def config(make_config):
    config = make_config(dynamics_dim=32, ema_decay=0.0)
    config.input_features[KEY] = PolicyFeature(FeatureType.STATE, (2,))
    return config


def _batch(make_batch, config, size):
    """Contact 0 is made whenever joint 0 moves up, contact 1 never; normalised to -1 and 1."""
    batch = make_batch(config, size)
    state = batch["observation.state"]
    upward = state[:, -1, 0] > 0
    window = HierarchicalDiffusionPolicy(config).network.window
    for number, position in enumerate(window.motion):
        state[:, position, 0] = 0.05 * number * (2 * upward.float() - 1)
    batch[KEY] = -torch.ones(size, state.shape[1], 2)
    batch[KEY][:, :, 0] = 2 * upward.float()[:, None] - 1
    return batch, upward


def test_contacts_are_foreseen(config, make_batch):
    stats = {KEY: {"min": torch.zeros(2), "max": torch.ones(2)}}
    policy = HierarchicalDiffusionPolicy(config, dataset_stats=stats).train()
    assert policy.network.contact_middle.tolist() == [0.0, 0.0]
    batch, upward = _batch(make_batch, config, 32)
    optimizer = torch.optim.Adam(policy.network.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss, _ = policy.forward(batch)
        loss.backward()
        optimizer.step()
    policy.eval()
    policy.predict_action_chunk(batch)
    foreseen = policy.last_info["layers"]["dynamics"]["contact"]
    assert foreseen.shape == (32, config.future_steps, 2)
    assert ((foreseen[:, 0, 0] > 0.5) == upward).float().mean() > 0.9
    assert (foreseen[..., 1] < 0.2).all()


def test_a_running_robot_need_not_tell_contacts(config, make_observation):
    policy = HierarchicalDiffusionPolicy(config).eval()
    observation = make_observation(config)
    del observation[KEY]
    assert policy.select_action(observation).isfinite().all()


def test_without_contacts_in_the_data_there_is_no_such_head(make_policy):
    assert make_policy().network.layers["dynamics"].contact is None
