# SPDX-License-Identifier: Apache-2.0
"""The losses of Q-chunking are those of slow loops over samples, in float64; the toy is solved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from chunk_corridor import CORRIDOR, HORIZON, PUBLISHED, build, random_walks, train, walked
from lerobot_policy_q_chunking.losses import critic_loss, flow_loss
from q_chunking_over import build as build_over
from q_chunking_over import over, training_batch

from lerobot_ext.offline_rl.critics import bootstrap_masks
from lerobot_ext.offline_rl.toy import MOVES


@pytest.fixture(scope="module")
def logs():
    return random_walks()


@pytest.mark.parametrize("aggregation", ["mean", "min", "mean_minus_std"])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_the_critics_loss_is_that_of_a_slow_loop(logs, aggregation, share):
    policy = build(
        logs, n_critics=3, aggregation=aggregation, kappa=0.7, bootstrap_probability=share
    ).double()
    ends = np.cumsum(logs.lengths)
    index = np.concatenate([ends[:40] - 1, ends[:40] - 2, np.arange(40)])  # last frames, padding and whole
    batch = {
        key: value.double() if value.is_floating_point() else value
        for key, value in logs.batch(index, HORIZON).items()
    }
    torch.manual_seed(3)
    following = policy.critic_target.value(
        policy.critic_target.observe(batch, 1), torch.rand(len(index), HORIZON, dtype=torch.float64)
    ).detach()
    view = policy._objective.windows.of_critics(batch)
    targets = policy.labels.targets(view)
    wanted = policy.labels.clamp(targets.returns + targets.bootstrap * following)
    features = policy.critic.observe(batch, 0)
    values = policy.critic(features, torch.rand(len(index), HORIZON, dtype=torch.float64))
    masks = bootstrap_masks(batch["index"], 3, share)
    found = critic_loss(values, wanted, targets.usable, masks if share < 1 else None).mean()

    joined = np.concatenate([np.full(n, number) for number, n in enumerate(logs.lengths)])
    expected = []
    for member in range(3):
        errors = []
        for row, frame in enumerate(index):
            episode = joined[frame]
            left = ends[episode] - frame
            terminal = bool(logs.walks[episode]["done"][-1])
            rewards = logs.walks[episode]["reward"][len(logs.walks[episode]["reward"]) - left :]
            total = sum(CORRIDOR.discount**k * float(r) for k, r in enumerate(rewards[:HORIZON]))
            if left <= HORIZON:
                if not terminal:
                    continue  # what would have followed was never recorded
                aim = total
            else:
                aim = total + CORRIDOR.discount**HORIZON * float(following[row])
            if not bool(masks[member, row]):
                continue
            aim = min(max(aim, float(policy.labels.low)), float(policy.labels.high))
            errors.append((float(values[member, row].detach()) - aim) ** 2)
        expected.append(sum(errors) / len(errors))
    assert float(policy.labels.scale) == 1.0
    assert float(found) == pytest.approx(sum(expected) / 3, abs=1e-10)


def test_flow_matching_is_that_of_a_slow_loop(logs):
    policy = build(logs).double()
    torch.manual_seed(1)
    chunk, noise = (torch.rand(6, HORIZON, dtype=torch.float64) for _ in range(2))
    time, state = (
        torch.rand(6, dtype=torch.float64),
        torch.eye(CORRIDOR.cells, dtype=torch.float64)[[0, 1, 2, 3, 0, 1]],
    )
    valid = torch.tensor([[True, True]] * 3 + [[True, False]] * 2 + [[False, False]])
    found = flow_loss(
        policy.actor, policy.actor.observe({"observation.state": state}), chunk, valid, noise, time
    )
    for row in range(6):
        place = (1 - time[row]) * noise[row] + time[row] * chunk[row]
        condition = policy.actor.observe({"observation.state": state[row : row + 1]})
        velocity = policy.actor.velocity(condition, place[None], time[row : row + 1])[0]
        errors = [
            float((velocity[k] - (chunk[row, k] - noise[row, k])) ** 2)
            for k in range(HORIZON)
            if valid[row, k]
        ]
        assert float(found[row]) == pytest.approx(sum(errors) / max(1, len(errors)), abs=1e-12)


def test_a_flow_whose_network_sees_the_chunk_leads_there(logs, monkeypatch):
    actor = build(logs, flow_steps=4).actor
    seen = torch.tensor([[0.5, -0.25]])
    monkeypatch.setattr(actor.flow, "forward", lambda context, noisy, time: seen.expand_as(noisy))
    condition = actor.observe({"observation.state": torch.rand(3, CORRIDOR.cells)})
    found = actor.integrate(condition, actor.noise(condition))
    torch.testing.assert_close(found, seen.expand(3, -1))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_flow_is_fitted_where_it_is_followed(logs, steps):
    actor = build(logs, flow_steps=steps).actor
    times = actor.draw_time(torch.zeros(4000, 2))
    last = (steps - 1) / steps
    assert times.min() >= 0.0
    assert times.max() <= last
    assert times.mean() == pytest.approx(last / 2, abs=0.02)


def test_the_one_step_actor_teaches_neither_critics_nor_flow(logs):
    policy = build(logs)
    batch = logs.batch(np.arange(8), HORIZON)
    condition = policy.actor.observe(batch).detached()
    from lerobot_policy_q_chunking.losses import distill_loss

    distance, rising, _ = distill_loss(
        policy.actor,
        policy.critic,
        condition,
        policy.critic.observe(batch).detach(),
        policy.actor.noise(condition),
        normalize=True,
    )
    (distance + rising).mean().backward()
    touched = {name.split(".")[1] for name, p in policy.named_parameters() if p.grad is not None}
    assert touched == {"one_step"}


def test_with_cameras_distilling_leaves_the_flow_to_its_own_loss():
    """The distance, of weight 100, to a flow that has hardly begun held its encoder back."""
    config = over(None, extraction="distill", cameras=((40, 40),), transformer_dim=16, transformer_heads=2)
    batch = training_batch(config)
    slopes = {}
    for alpha in (0.0, 100.0):
        config.alpha = alpha
        torch.manual_seed(0)
        policy = build_over(config).train()
        policy.forward(batch)[0].backward()
        slopes[alpha] = [p.grad for p in policy.actor.flow.parameters()]
        assert any(bool(p.grad.any()) for p in policy.actor.one_step.parameters())
    for without, heavy in zip(*slopes.values(), strict=True):
        assert heavy is not None
        torch.testing.assert_close(heavy, without)
    assert any(bool(slope.any()) for slope in slopes[0.0])


def test_the_one_step_actor_learns_from_every_so_manieth_sample(logs, monkeypatch):
    found = []
    for every, rows in ((3, slice(None)), (1, slice(None, None, 3))):
        policy = build(logs, distill_every=every)
        monkeypatch.setattr(
            policy.actor, "noise", lambda condition: torch.full((len(condition.features), 2), 0.3)
        )
        batch = {name: value[rows] for name, value in logs.batch(np.arange(10), HORIZON).items()}
        loss, _ = policy.forward(batch)
        loss.backward()
        found.append([p.grad for p in policy.actor.one_step.parameters()])
    for thin, alone in zip(*found, strict=True):
        torch.testing.assert_close(thin, alone)


@pytest.fixture(scope="module")
def distilled(logs):
    return train(logs, alpha=0.3, **PUBLISHED)


def test_the_critic_agrees_with_value_iteration(distilled):
    """Each move of the chunk is the middle of the actions that make it."""
    expected = CORRIDOR.optimal_chunk_values(HORIZON)
    cells = torch.tensor([cell for cell, _ in expected])
    actions = torch.tensor([[2 / 3 * move for move in chunk] for _, chunk in expected])
    with torch.no_grad():
        features = distilled.critic_target.observe({"observation.state": torch.eye(CORRIDOR.cells)[cells]})
        found = distilled.critic_target(features, actions).mean(0) * distilled.labels.scale
    errors = (found - torch.tensor(list(expected.values()))).abs()
    assert len(errors) == 4 * len(MOVES) ** HORIZON
    assert errors.mean() < 0.08


def test_distilling_walks_nearly_as_the_best_policy(distilled):
    best = CORRIDOR.returns(lambda cell: 1.0)
    assert walked(distilled) > 0.8 * best
