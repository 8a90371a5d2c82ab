# SPDX-License-Identifier: Apache-2.0
"""Q-chunking on the corridor that value iteration solves: logs, small policies, and their walks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot_policy_q_chunking import QChunkingConfig, QChunkingPolicy

from lerobot_ext.offline_rl.toy import Corridor, CorridorLogs

CORRIDOR = Corridor(cells=5, max_steps=12, discount=0.9)
HORIZON = 2
PUBLISHED = {"value_target": "actor", "weighted_cloning": False, "inverse_temperature": 10.0, "flow_steps": 5}
"""Values of what the actor would do, and a flow of all logs alike."""


def random_walks() -> CorridorLogs:
    """Logs whose average action is to stand still."""
    return CorridorLogs.record(CORRIDOR, walks=400, seed=0)


def build(logs: CorridorLogs, **fields: Any) -> QChunkingPolicy:
    """A policy of small networks for these logs, from a seed."""
    torch.manual_seed(0)
    config = QChunkingConfig(
        device="cpu",
        input_features={"observation.state": PolicyFeature(FeatureType.STATE, (CORRIDOR.cells,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (1,))},
        **{
            "chunk_size": HORIZON,
            "n_action_steps": 1,
            "discount": CORRIDOR.discount,
            "hidden_dim": 32,
            "obs_feature_dim": 32,
            "actor_hidden_dim": 32,
            "actor_hidden_layers": 2,
            "tau": 0.05,
            "actor_ema": 0.95,
            "optimizer_lr": 1e-3,
            "optimizer_critic_lr": 1e-3,
            **fields,
        },
    )
    policy = QChunkingPolicy(config)
    policy.set_episodes(logs.episodes())
    return policy.train()


def train(logs: CorridorLogs, steps: int = 500, **fields: Any) -> QChunkingPolicy:
    """The same, trained."""
    torch.set_num_threads(1)  # these networks are too small for more
    policy = build(logs, **fields)
    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    rng = np.random.default_rng(0)
    for _ in range(steps):
        loss, _ = policy.forward(logs.batch(rng.integers(logs.lengths.sum(), size=128), HORIZON))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
    return policy.eval()


def walked(policy: QChunkingPolicy) -> float:
    """What it earns on its own walks."""

    def act(cell: Any) -> float:
        policy.reset()
        state = torch.from_numpy(CORRIDOR.observe(cell)).float()[None]
        return float(policy.select_action({"observation.state": state}))

    torch.manual_seed(0)
    return float(np.mean([CORRIDOR.returns(act) for _ in range(4)]))
