# SPDX-License-Identifier: Apache-2.0
"""What a plan may not do, whatever was sampled."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lerobot_policy_hierarchical_diffusion.modeling_hierarchical_diffusion import HierarchicalDiffusionPolicy
from lerobot_policy_hierarchical_diffusion.safety_filter import (
    SafetyFilter,
    conformal_threshold,
    hold_action,
)
from lerobot_policy_hierarchical_diffusion.statistics import NormalizedLimits
from numpy import float32

STATS = {
    key: {
        "min": torch.full((2,), low),
        "max": torch.full((2,), high),
        "mean": torch.zeros(2),
        "std": torch.ones(2),
    }
    for key, low, high in (("observation.state", -2.0, 2.0), ("action", -4.0, 4.0))
}
INSIDE = st.floats(-1, 1, width=32)
WILD = st.floats(-1e4, 1e4, width=32)


@pytest.fixture(scope="module")
def limits():
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot_policy_hierarchical_diffusion import HierarchicalDiffusionConfig

    config = HierarchicalDiffusionConfig(
        device="cpu",
        limit_margin=0.1,
        input_features={"observation.state": PolicyFeature(FeatureType.STATE, (2,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
    )
    made = NormalizedLimits(config)
    made.set_from(STATS)
    return made


def trained_filter(**fields) -> SafetyFilter:
    """Demonstrations change by 0.1 a frame and lead the position by 0.2."""
    made = SafetyFilter(2, 2, **{"quantile": 0.9, "margin": 1.5, "alpha": 0.1, **fields})
    chunk = torch.arange(8)[:, None] * 0.1 + torch.zeros(16, 8, 2)
    made.observe(chunk, torch.ones(16, 8, dtype=torch.bool), chunk[:, 0] - 0.2)
    return made


@given(
    arrays(float32, (3, 6, 2), elements=WILD), arrays(float32, (3, 2), elements=st.floats(-1, 1, width=32))
)
@settings(deadline=None)
def test_no_plan_leaves_the_limits(limits, sampled, last):
    made = trained_filter()
    chunk, emergency = made(
        torch.from_numpy(sampled), torch.zeros(3), limits, torch.zeros(3, 2), torch.from_numpy(last)
    )
    assert not emergency.any()
    assert (chunk >= limits.action_low).all()
    assert (chunk <= limits.action_high).all()
    steps = torch.cat([torch.from_numpy(last)[:, None], chunk], dim=1).diff(dim=1).abs()
    assert (steps <= 1.5 * made.change.value() + 1e-5).all()


def test_a_plan_within_the_limits_passes_as_it_is(limits):
    chunk = torch.arange(6)[:, None] * 0.1 + torch.zeros(3, 6, 2)
    passed, _ = trained_filter()(chunk, torch.zeros(3), limits, torch.zeros(3, 2), None)
    assert torch.equal(passed, chunk)


def test_the_first_action_may_lead_the_position_as_far_as_usual(limits):
    made = trained_filter()
    chunk = torch.full((1, 6, 2), 0.9)
    passed, _ = made(chunk, torch.zeros(1), limits, torch.zeros(1, 2), None)
    torch.testing.assert_close(passed[0, 0], 1.5 * made.lead.value())


@pytest.mark.parametrize("fields", [{"margin": 0.0}, {}])
def test_without_margin_or_demonstrations_only_the_range_counts(limits, fields):
    made = trained_filter(**fields) if fields else SafetyFilter(2, 2, quantile=0.9, margin=1.5, alpha=0.1)
    chunk = torch.tensor([[[5.0, -5.0], [0.3, 0.2]]])
    passed, _ = made(chunk, torch.zeros(1), limits, torch.zeros(1, 2), None)
    expected = torch.tensor([[limits.action_high[0], limits.action_low[1]], [0.3, 0.2]])
    torch.testing.assert_close(passed[0], expected)


def test_an_emergency_holds_its_robot_alone(limits):
    made = trained_filter()
    made.threshold.fill_(0.5)
    position = torch.tensor([[0.5, -0.25], [0.0, 0.0]])
    chunk = torch.zeros(2, 6, 2)
    passed, emergency = made(chunk, torch.tensor([0.9, 0.1]), limits, position, None)
    assert emergency.tolist() == [True, False]
    hold = hold_action(position, limits)[0]
    # The state's range is half the action's: normalised 0.5 of the one is 0.25 of the other.
    torch.testing.assert_close(hold, torch.tensor([0.25, -0.125]))
    assert torch.equal(passed[0], hold.expand(6, 2))
    assert torch.equal(passed[1], chunk[1])


def test_without_positions_the_last_action_is_held(limits):
    made = SafetyFilter(2, 3, quantile=0.9, margin=1.5, alpha=0.1)
    made.threshold.fill_(0.5)
    last = torch.tensor([[0.3, 0.4]])
    passed, _ = made(torch.zeros(1, 4, 2), torch.ones(1), limits, torch.zeros(1, 3), last)
    assert torch.equal(passed[0], last.expand(4, 2))


# --- the threshold


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.floats(0.0, 0.99))
def test_no_more_than_alpha_of_the_held_out_frames_are_flagged(scores, alpha):
    threshold = conformal_threshold(scores, alpha)
    assert sum(score > threshold for score in scores) <= alpha * (len(scores) + 1)


def test_new_frames_of_the_same_kind_are_flagged_as_rarely():
    generator = torch.Generator().manual_seed(0)
    shares = []
    for _ in range(200):
        threshold = conformal_threshold(torch.rand(500, generator=generator).tolist(), 0.05)
        shares.append(float((torch.rand(500, generator=generator) > threshold).float().mean()))
    assert sum(shares) / len(shares) == pytest.approx(0.05, abs=0.004)


def test_too_few_frames_flag_nothing():
    assert conformal_threshold([0.1] * 50, 0.01) == math.inf
    assert conformal_threshold([0.1] * 50, 0.0) == math.inf


# --- the policy


def test_held_out_frames_set_the_threshold_that_is_saved(make_policy, make_batch, tmp_path):
    policy = make_policy(emergency_alpha=0.1)
    batch = make_batch(policy.config, 32)
    policy.train()(batch)
    policy.update()
    assert policy.network.filter.threshold == torch.inf
    with torch.no_grad():
        policy.eval()(batch)
    threshold = policy.average.filter.threshold.clone()
    assert threshold.isfinite()
    policy.update()  # copies the trained network's buffers into the average
    assert policy.average.filter.threshold == threshold
    policy.save_pretrained(tmp_path)
    loaded = HierarchicalDiffusionPolicy.from_pretrained(tmp_path, config=policy.config)
    assert loaded.average.filter.threshold == threshold


def test_a_policy_in_an_emergency_holds_and_looks_again_at_once(make_policy, make_observation):
    policy = make_policy().eval()
    policy.average.filter.threshold.fill_(-1.0)  # everything is an emergency
    observation = make_observation(policy.config, 2)
    action = policy.select_action(observation)
    assert policy.last_info["emergency"].tolist() == [True, True]
    torch.testing.assert_close(action, observation["observation.state"])  # without statistics 1:1
    policy.average.filter.threshold.fill_(torch.inf)
    policy.select_action(observation)
    assert policy.last_info["emergency"].tolist() == [False, False]


def test_bad_bounds_are_refused(make_config):
    with pytest.raises(ValueError, match=r"`filter_margin` \(0.5\) must be 1 or more, or 0"):
        make_config(filter_margin=0.5)
    with pytest.raises(ValueError, match=r"`emergency_alpha` \(1.0\) must lie in \[0, 1\)"):
        make_config(emergency_alpha=1.0)


def test_an_emergency_between_two_plans_ends_the_plan(make_policy, make_observation, monkeypatch):
    policy = make_policy(n_action_steps=8).eval()
    network = policy.average
    score = torch.tensor([0.1])
    layer = network.layers["safety"]
    monkeypatch.setattr(layer, "_logit", lambda features: score.logit().expand(len(features)))
    network.filter.threshold.fill_(0.5)
    plans = []
    plan = network.plan
    monkeypatch.setattr(network, "plan", lambda *a, **k: plans.append(frame) or plan(*a, **k))
    for frame in range(6):
        score.fill_(0.9 if frame in (3, 4) else 0.1)
        observation = make_observation(policy.config, seed=frame)
        action = policy.select_action(observation)
        if frame in (3, 4):
            expected = hold_action(observation["observation.state"], network.limits)
            torch.testing.assert_close(action, expected)
    assert plans == [0, 3, 4, 5]
