# SPDX-License-Identifier: Apache-2.0
"""On a corridor whose values are known, LAPO learns them and walks better than cloning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot_policy_lapo import LAPOConfig, LAPOPolicy

from lerobot_ext.offline_rl.toy import MOVES, Corridor, CorridorLogs

CORRIDOR = Corridor(cells=5, max_steps=12, discount=0.9)
HORIZON = 2


@pytest.fixture(scope="module")
def logs():
    """Random walks: the average action is to stand still."""
    return CorridorLogs.record(CORRIDOR, walks=400, seed=0)


def train(logs, steps=500, **fields):
    torch.set_num_threads(1)  # these networks are too small for more
    torch.manual_seed(0)
    config = LAPOConfig(
        device="cpu",
        input_features={"observation.state": PolicyFeature(FeatureType.STATE, (CORRIDOR.cells,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (1,))},
        **{
            "chunk_size": HORIZON,
            "n_action_steps": 1,
            "discount": CORRIDOR.discount,
            "hidden_dim": 32,
            "hidden_layers": 2,
            "obs_feature_dim": 32,
            "tau": 0.05,
            "kl_beta": 0.1,
            "optimizer_lr": 1e-3,
            "optimizer_critic_lr": 1e-3,
            **fields,
        },
    )
    policy = LAPOPolicy(config)
    policy.set_episodes(logs.episodes())
    optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
    rng = np.random.default_rng(0)
    frames = logs.lengths.sum()
    policy.train()
    for _ in range(steps):
        loss, _ = policy.forward(logs.batch(rng.integers(frames, size=128), HORIZON))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
    return policy.eval()


def walked(policy):
    def act(cell):
        policy.reset()
        state = torch.from_numpy(CORRIDOR.observe(cell)).float()[None]
        return float(policy.select_action({"observation.state": state}))

    return CORRIDOR.returns(act)


@pytest.fixture(scope="module")
def lapo(logs):
    return train(logs)


def test_the_critic_agrees_with_value_iteration(lapo):
    """Each move of the chunk is the middle of the actions that make it."""
    expected = CORRIDOR.optimal_chunk_values(HORIZON)
    cells = torch.tensor([cell for cell, _ in expected])
    actions = torch.tensor([[2 / 3 * move for move in chunk] for _, chunk in expected])
    state = torch.eye(CORRIDOR.cells)[cells]
    with torch.no_grad():
        features = lapo.target.encoder({"observation.state": state})
        found = lapo.target.q(features, actions).mean(0) * lapo.labels.scale
    errors = (found - torch.tensor(list(expected.values()))).abs()
    assert len(errors) == 4 * len(MOVES) ** HORIZON
    assert errors.mean() < 0.05
    assert errors.max() < 0.2


def test_lapo_walks_like_the_best_policy_and_cloning_does_not(logs, lapo):
    best = CORRIDOR.returns(lambda cell: 1.0)
    assert walked(lapo) == pytest.approx(best, abs=1e-6)
    assert walked(train(logs, extraction="bc", steps=300)) < 0.5 * best


def test_iql_beats_cloning_too(logs):
    policy = train(logs, extraction="iql", steps=500)
    assert walked(policy) > 0.7 * CORRIDOR.returns(lambda cell: 1.0)


def divergence(policy, logs):
    """What the latents say of the chunks, in nats."""
    batch = logs.batch(np.arange(256), HORIZON)
    with torch.no_grad():
        return policy.forward(batch)[1]["kl"]


def test_the_latent_speaks_where_kl_beta_is_below_twice_the_variance_of_the_actions(logs, lapo):
    """Actions are uniform in [-1, 1], of variance 1/3: below 2/3 a latent pays for itself, above not."""
    assert divergence(lapo, logs) > 1.0  # kl_beta 0.1
    assert divergence(train(logs, kl_beta=2.0, steps=300), logs) < 0.02
