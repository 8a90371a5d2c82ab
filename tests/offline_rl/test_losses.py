# SPDX-License-Identifier: Apache-2.0
"""Losses and weights against hand-worked examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lerobot_ext.offline_rl.bounds import bounds_of_rewards, returns_to_go, value_bounds
from lerobot_ext.offline_rl.losses import (
    expectile_loss,
    exponential_weights,
    gaussian_kl,
    masked_mean,
    two_level_weights,
)


def test_a_masked_mean_counts_the_valid_samples_only():
    values = torch.tensor([[1.0, torch.nan, 3.0], [2.0, 5.0, 6.0]], requires_grad=True)
    mask = torch.tensor([True, False, True])
    mean = masked_mean(values, mask)
    assert mean.tolist() == [2.0, 4.0]
    mean.sum().backward()
    assert values.grad.tolist() == [[0.5, 0, 0.5], [0.5, 0, 0.5]]
    each = masked_mean(values, mask, "none")
    assert each.mean(1).tolist() == [2.0, 4.0]
    assert masked_mean(values, torch.zeros(3, dtype=torch.bool)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("expectile", "expected"), [(0.5, 0.5), (0.9, 0.9), (0.1, 0.1)])
def test_the_minimiser_is_the_expectile(expectile, expected):
    """Of the two numbers 0 and 1 the expectile is the weight of the larger one."""
    guess = torch.zeros((), requires_grad=True)
    data = torch.tensor([0.0, 1.0])
    for _ in range(400):
        (gradient,) = torch.autograd.grad(expectile_loss(data - guess, expectile).mean(), guess)
        guess = (guess - 0.5 * gradient).detach().requires_grad_()
    assert guess.item() == pytest.approx(expected, abs=1e-4)


def test_weights_by_advantage():
    advantage = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    assert two_level_weights(advantage, 0.75).tolist() == [0.25, 0.25, 0.75]
    weights = exponential_weights(advantage, 3.0, largest=100.0)
    assert weights.tolist() == pytest.approx([np.exp(-3), 1.0, 100.0], rel=1e-5)
    assert not weights.requires_grad
    assert exponential_weights(torch.tensor([1e6]), 10.0).isfinite().all()


def test_the_divergence_is_that_of_torch():
    mean, log_std = torch.randn(4, 3), torch.randn(4, 3)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(0.0, 1.0)
    ).sum(-1)
    torch.testing.assert_close(gaussian_kl(mean, log_std), expected)


def test_values_are_bounded_by_the_returns_that_were_seen():
    assert returns_to_go(np.array([0.0, 0.0, 1.0]), 0.5).tolist() == [0.25, 0.5, 1.0]
    success, failure = np.array([0.0, 0.0, 1.0]), np.zeros(5)
    assert value_bounds([success, failure], np.array([True, False]), 0.9) == (0.0, 1.0)


def test_a_cut_off_episode_may_go_on_costing_for_ever():
    cost = np.full(4, -1.0)
    assert value_bounds([cost], np.array([False]), 0.5) == (-2.0, 0.0)
    low, high = value_bounds([cost], np.array([True]), 0.5)
    assert (low, high) == (-1.875, 0.0)
    with pytest.raises(ValueError, match="discount"):
        value_bounds([cost], np.array([False]), 1.0)
    with pytest.raises(ValueError, match="no episode"):
        value_bounds([], np.array([], bool), 0.9)


def test_bounds_of_single_rewards():
    assert bounds_of_rewards(-1.0, 0.0, 0.75) == (-4.0, 0.0)
    assert bounds_of_rewards(0.0, 0.0, 0.9).scale == 1.0
