# SPDX-License-Identifier: Apache-2.0
"""Target networks follow exactly, buffers too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lerobot_ext.offline_rl.randomness import StepRandomness
from lerobot_ext.offline_rl.targets import make_target, soft_update


def test_a_target_follows_as_the_formula_says_in_double_precision():
    torch.manual_seed(0)
    source = nn.Linear(3, 2).double()
    target = make_target(source)
    before = target.weight.clone()
    with torch.no_grad():
        source.weight += 1
    soft_update(target, source, 0.005)
    torch.testing.assert_close(target.weight, 0.995 * before + 0.005 * source.weight, rtol=0, atol=1e-15)
    assert not any(parameter.requires_grad for parameter in target.parameters())


def test_running_statistics_follow_and_counters_are_copied():
    source = nn.BatchNorm1d(2)
    target = make_target(source)
    source(torch.randn(64, 2) + 5)
    soft_update(target, source, 0.1)
    torch.testing.assert_close(target.running_mean, 0.1 * source.running_mean)
    assert target.num_batches_tracked == 1


def test_a_half_precision_source_still_moves_its_target():
    source = nn.Linear(4, 4).bfloat16()
    target = make_target(source)
    before = target.weight.clone()
    with torch.no_grad():
        source.weight += 0.01
    soft_update(target, source, 0.005)
    assert (target.weight != before).all()


def test_rate_one_copies_and_nonsense_is_refused():
    source, other = nn.Linear(2, 2), nn.Linear(2, 2)
    target = make_target(source)
    soft_update(target, other, 1.0)
    assert target.weight.equal(other.weight)
    with pytest.raises(ValueError, match=r"1\.5"):
        soft_update(target, source, 1.5)
    with pytest.raises(ValueError, match="bias"):
        soft_update(target, nn.Linear(2, 2, bias=False), 0.1)


def test_the_noise_of_a_step_does_not_depend_on_what_was_drawn_before():
    torch.manual_seed(3)
    first = StepRandomness()
    cpu = torch.device("cpu")
    with first.of_step(7, cpu):
        expected = torch.randn(3)
    with first.of_step(7, cpu):
        again = torch.randn(3)
    torch.randn(100)
    second = StepRandomness()
    with second.of_step(7, cpu):
        assert torch.randn(3).equal(expected)
    assert not again.equal(expected)
    second.advance()
    with second.of_step(8, cpu):
        assert not torch.randn(3).equal(expected)


def test_each_rank_has_noise_of_its_own_and_the_first_that_of_one_process(monkeypatch):
    def drawn():
        torch.manual_seed(3)
        with StepRandomness().of_step(7, torch.device("cpu")):
            return torch.randn(3)

    alone = drawn()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    ranks = []
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        ranks.append(drawn())
    assert ranks[0].equal(alone)
    assert not ranks[1].equal(alone)
    assert not ranks[2].equal(ranks[1])
