# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from lerobot_ext.online_rl.rewards import VARIES, RewardRule, rule_of_episode

SPARSE = RewardRule(0.0, 1.0)


def rule(rewards, succeeded):
    return rule_of_episode(np.array(rewards, dtype=float), succeeded)


def test_rules_are_read_from_episodes():
    assert rule([0, 0, 1], True) == SPARSE
    assert rule([-1, -1, 0], True) == RewardRule(-1.0, 0.0)
    assert rule([0.1, 0.2, 1.3], True) == RewardRule(VARIES, pytest.approx(1.3))
    assert rule([0, 0], False) == RewardRule(0.0, None)
    assert rule([0, 0, 5], None) == RewardRule(0.0, None)
    assert rule([1], True) == RewardRule(None, 1.0)


def test_what_is_not_known_yet_contradicts_nothing():
    assert RewardRule(0.0, None).agrees(SPARSE)
    assert RewardRule().agrees(SPARSE)


@pytest.mark.parametrize("other", [RewardRule(-1.0, 0.0), RewardRule(VARIES, 1.0), RewardRule(0.0, 10.0)])
def test_other_conventions_disagree(other):
    assert not other.agrees(SPARSE)


def test_episodes_add_up_to_one_rule():
    assert RewardRule(0.0, None) | RewardRule(0.0, 1.0) == SPARSE
    assert (RewardRule(0.0, 1.0) | RewardRule(0.5, 1.0)).ordinary == VARIES
    assert str(SPARSE) == "0 for an ordinary frame and 1 for success"
