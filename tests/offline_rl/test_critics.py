# SPDX-License-Identifier: Apache-2.0
"""Ensembles equal a loop over their members; masks are stable and independent."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lerobot_ext.offline_rl.critics import EnsembleLinear, EnsembleMLP, aggregate, bootstrap_masks


def one_by_one(critic: EnsembleMLP, x: torch.Tensor) -> torch.Tensor:
    """The same networks in a Python loop."""
    values = []
    for member in range(critic.members):
        hidden = x if x.ndim == 2 else x[member]
        for layer in critic.layers:
            if isinstance(layer, EnsembleLinear):
                hidden = F.linear(hidden, layer.weight[member].T, layer.bias[member, 0])
            elif isinstance(layer, nn.GELU):
                hidden = F.gelu(hidden)
            else:
                hidden = F.layer_norm(
                    hidden, hidden.shape[-1:], layer.weight[member, 0], layer.bias[member, 0]
                )
        values.append(hidden.squeeze(-1))
    return torch.stack(values)


@pytest.mark.parametrize("members", [1, 2, 10])
@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_one_call_equals_a_loop_over_the_members(members, layer_norm, shared):
    torch.manual_seed(0)
    critic = EnsembleMLP(members, 7, (16, 8), layer_norm=layer_norm).double()
    x = torch.randn((5, 7) if shared else (members, 5, 7), dtype=torch.float64)
    torch.testing.assert_close(critic(x), one_by_one(critic, x))
    first = torch.autograd.grad(critic(x).square().sum(), list(critic.parameters()))
    second = torch.autograd.grad(one_by_one(critic, x).square().sum(), list(critic.parameters()))
    for found, expected in zip(first, second, strict=True):
        torch.testing.assert_close(found, expected)


def test_inputs_are_joined_and_spread_over_the_members():
    critic = EnsembleMLP(3, 5, (8,), 2)
    state, each = torch.randn(4, 2), torch.randn(3, 4, 3)
    values = critic(state, each)
    assert values.shape == (3, 4, 2)
    torch.testing.assert_close(values, critic(torch.cat([state.expand(3, 4, 2), each], -1)))


def test_members_start_differently():
    critic = EnsembleMLP(2, 4, (8,))
    first, second = critic(torch.randn(6, 4))
    assert not torch.allclose(first, second)


def test_an_ensemble_is_read_as_asked():
    values = torch.tensor([[1.0, 4.0], [3.0, 4.0]])
    assert aggregate(values, "mean").tolist() == [2.0, 4.0]
    assert aggregate(values, "min").tolist() == [1.0, 4.0]
    assert aggregate(values, "mean_std", pessimism=2.0).tolist() == [0.0, 4.0]
    torch.testing.assert_close(aggregate(values, "mix", pessimism=0.8), torch.tensor([1.4, 4.0]))
    with pytest.raises(ValueError, match="median"):
        aggregate(values, "median")


def test_masks_depend_on_the_frame_alone():
    index = torch.arange(4000)
    masks = bootstrap_masks(index, 5, 0.7)
    order = torch.randperm(4000)
    assert bootstrap_masks(index[order], 5, 0.7).equal(masks[:, order])
    assert bootstrap_masks(index, 3, 0.7).equal(masks[:3])
    assert not bootstrap_masks(index, 5, 0.7, seed=1).equal(masks)


def test_masks_have_their_share_and_do_not_follow_each_other():
    masks = bootstrap_masks(torch.arange(20000), 6, 0.5).float()
    assert (masks.mean(1) - 0.5).abs().max() < 0.02
    correlation = torch.corrcoef(torch.cat([masks, masks.roll(1, 1)]))
    assert (correlation - torch.eye(12)).abs().max() < 0.04
    assert bootstrap_masks(torch.arange(9), 2, 1.0).all()
    with pytest.raises(ValueError, match="probability"):
        bootstrap_masks(torch.arange(9), 2, 0.0)
