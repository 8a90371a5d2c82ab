# SPDX-License-Identifier: Apache-2.0
"""Demonstrations that do the same thing in three ways: the flow head samples one, the L1 head says none."""

import torch
from small_act import act_plus

WAYS = torch.tensor([[0.0, 1.0], [-0.87, -0.5], [0.87, -0.5]])
"""The median of each coordinate is (0, -0.5), as far from any way as two ways are from the middle."""
SIZE = {"use_vae": False, "dropout": 0.0, "chunk_size": 4, "n_action_steps": 4, "dim_model": 32}


def off(policy, samples: int = 200) -> torch.Tensor:
    """(samples,) how far planned actions are from the nearest way."""
    batch = {
        "observation.state": torch.zeros(samples, 4),
        "observation.environment_state": torch.zeros(samples, 3),
    }
    torch.manual_seed(1)
    planned = policy.predict_action_chunk(batch)
    return torch.cdist(planned.reshape(-1, 2), WAYS).min(1).values.reshape(samples, -1).max(1).values


def trained(steps: int = 400, **fields):
    policy = act_plus(shape={"env": 3, "action": 2}, **SIZE, **fields)
    optimizer = torch.optim.AdamW(policy.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    policy.train()
    for _ in range(steps):
        way = WAYS[torch.randint(3, (64,))]
        batch = {
            "observation.state": torch.zeros(64, 4),
            "observation.environment_state": torch.zeros(64, 3),
            "action": way[:, None].expand(-1, 4, -1).contiguous(),
            "action_is_pad": torch.zeros(64, 4, dtype=torch.bool),
        }
        loss, _ = policy.forward(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return policy


def test_the_flow_head_takes_one_of_three_ways_where_l1_takes_none():
    torch.manual_seed(0)
    assert off(trained(), 1).item() > 0.6
    flow = off(trained(head="flow", flow_steps=10, flow_target="actions"))
    assert (flow < 0.25).float().mean() > 0.8
    assert flow.median() < 0.12


def test_a_clean_chunk_is_reached_in_one_step_from_anywhere():
    from lerobot_policy_act_plus.flow import integrate, towards

    clean, start = torch.randn(5, 4, 2, dtype=torch.float64), torch.randn(5, 4, 2, dtype=torch.float64)
    for solver, steps in (("euler", 1), ("euler", 7), ("midpoint", 3)):
        for time in (1.0, 0.4):
            reached = integrate(lambda x, now: towards(x, clean, now), start, time, steps, solver)
            torch.testing.assert_close(reached, clean)
