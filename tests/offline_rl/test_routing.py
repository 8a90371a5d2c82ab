# SPDX-License-Identifier: Apache-2.0
"""Losses on one optimizer: exact policy gradients, groups clipped one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lerobot_ext.offline_rl.critics import EnsembleMLP, aggregate
from lerobot_ext.offline_rl.routing import GroupedAdamWConfig, parameter_group, policy_gradient_loss


@pytest.fixture
def networks():
    torch.manual_seed(0)
    actor = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    return actor, EnsembleMLP(2, 7, (16,)).double(), torch.randn(5, 4, dtype=torch.float64)


@pytest.mark.parametrize("normalize", [False, True])
def test_the_actor_gets_the_policy_gradient_and_the_critic_nothing(networks, normalize):
    actor, critic, state = networks

    def value(actions):
        return aggregate(critic(state, actions), "min")

    loss, values = policy_gradient_loss(value, actor(state), normalize=normalize)
    loss.mean().backward()
    found = [parameter.grad.clone() for parameter in actor.parameters()]
    assert all(parameter.grad is None for parameter in critic.parameters())
    assert not values.requires_grad

    direct = -value(actor(state)).mean()
    scale = values.abs().mean() if normalize else 1.0
    for mine, expected in zip(found, torch.autograd.grad(direct, list(actor.parameters())), strict=True):
        torch.testing.assert_close(mine, expected / scale)


def test_it_works_where_the_trainer_measures_without_gradients(networks):
    actor, critic, state = networks
    with torch.no_grad():
        loss, _ = policy_gradient_loss(lambda a: critic(state, a).mean(0), actor(state))
    assert loss.isfinite().all()


def test_one_adam_with_groups_equals_separate_adams_with_their_own_clipping():
    def build():
        torch.manual_seed(1)
        return nn.Linear(3, 2), nn.Linear(3, 2)

    rates, norms = (1e-2, 1e-3), (0.5, 0.0)
    one, two = build(), build()
    joint = GroupedAdamWConfig().build(
        [parameter_group([m], lr, clip_norm=norm) for m, lr, norm in zip(one, rates, norms, strict=True)]
    )
    separate = [
        torch.optim.AdamW(m.parameters(), lr, weight_decay=0.0) for m, lr in zip(two, rates, strict=True)
    ]
    for step in range(4):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        for pair in (one, two):
            sum((100 * m(x).square().mean() for m in pair), torch.zeros(())).backward()
        joint.step()
        joint.zero_grad()
        for module, optimizer, norm in zip(two, separate, norms, strict=True):
            if norm:
                nn.utils.clip_grad_norm_(module.parameters(), norm)
            optimizer.step()
            optimizer.zero_grad()
    for mine, theirs in zip(one, two, strict=True):
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert a.equal(b)


def test_a_group_is_clipped_by_its_own_norm_only():
    small, large = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = GroupedAdamWConfig().build(
        [parameter_group([small], 1e-3, clip_norm=1.0), parameter_group([large], 1e-3, clip_norm=1.0)]
    )
    small.grad, large.grad = torch.tensor([0.3, 0.4]), torch.tensor([300.0, 400.0])
    optimizer.step()
    assert small.grad.tolist() == pytest.approx([0.3, 0.4])
    assert large.grad.norm().item() == pytest.approx(1.0, rel=1e-4)


def test_frozen_parameters_are_not_optimised():
    module = nn.Linear(2, 2).requires_grad_(False)
    assert parameter_group([module, nn.Parameter(torch.zeros(1))], 1e-3)["params"][0].shape == (1,)
