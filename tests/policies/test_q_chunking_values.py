# SPDX-License-Identifier: Apache-2.0
"""Values from the logs alone, and what is cloned by how well it went: as slow loops have them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from chunk_corridor import CORRIDOR, HORIZON, build, random_walks, train, walked
from lerobot_policy_q_chunking.critic import folds, judges


@pytest.fixture(scope="module")
def logs():
    return random_walks()


@pytest.fixture
def batch(logs):
    """Last frames of episodes, frames before them, and whole chunks."""
    ends = np.cumsum(logs.lengths)
    made = logs.batch(np.concatenate([ends[:20] - 1, ends[:20] - 2, np.arange(20)]), HORIZON)
    return {key: value.double() if value.is_floating_point() else value for key, value in made.items()}


def shaken(logs, **fields):
    """A policy whose slow critics differ from the trained ones, in float64."""
    policy = build(logs, actor_ema=0.0, **fields).double()
    with torch.no_grad():
        for weight in policy.critic_target.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return policy


def seen(policy, batch):
    view = policy._objective.windows.of_critics(batch)
    valid = policy.labels.valid(view)
    held = view["action"].flatten(1).clone()
    held[~valid[:, 1], 1] = held[~valid[:, 1], 0]
    return view, held


def losses(policy, batch):
    return policy._objective.losses(batch, augment=False)[0]


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.95])
def test_the_values_loss_is_that_of_a_slow_loop(logs, batch, expectile):
    policy = shaken(logs, extraction="best_of_n", expectile=expectile)
    view, chunk = seen(policy, batch)
    slow, critic = policy.critic_target, policy.critic
    expected = []
    for row in range(len(chunk)):
        one = {key: value[row : row + 1] for key, value in view.items()}
        reached = slow(slow.observe(one), chunk[row : row + 1]).mean()
        learns = int(folds(batch["episode_index"][row : row + 1]))
        wrong = float((reached - critic.of_state(critic.observe(one))[learns, 0]).detach())
        expected.append((expectile if wrong > 0 else 1 - expectile) * wrong**2)
    assert float(losses(policy, batch).parts["value_loss"]) == pytest.approx(np.mean(expected), abs=1e-12)


def test_the_critics_follow_what_the_slow_value_says(logs, batch):
    policy = shaken(logs, extraction="best_of_n")
    view, chunk = seen(policy, batch)
    targets, slow = policy.labels.targets(view), policy.critic_target
    after = slow.of_state(slow.observe(view, 1))[1 - folds(batch["episode_index"]), range(len(chunk))]
    wanted = policy.labels.clamp(targets.returns + targets.bootstrap * after)
    errors = (policy.critic(policy.critic.observe(view), chunk) - wanted).square()[:, targets.usable]
    whole = losses(policy, batch)
    assert float(whole.parts["critic_loss"]) == pytest.approx(float(errors.detach().mean()), abs=1e-12)


@pytest.mark.parametrize("extraction", ["best_of_n", "awr"])
def test_values_of_the_logs_ask_nothing_of_the_actor(logs, batch, extraction, monkeypatch):
    policy = shaken(logs, extraction=extraction)

    def refuse(*_):
        raise AssertionError("the actor was asked for chunks")

    monkeypatch.setattr(policy.actor, "sample", refuse)
    assert losses(policy, batch).total.isfinite().all()


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("value_target", ["data", "actor"])
def test_the_weights_are_those_of_a_slow_loop(logs, batch, share, value_target, monkeypatch):
    policy = shaken(
        logs, extraction="awr", return_share=share, value_target=value_target, inverse_temperature=3.0
    )
    fixed = torch.rand(len(batch["index"]), 5, HORIZON, dtype=torch.float64)
    monkeypatch.setattr(policy.actor, "sample", lambda condition, count: fixed)
    view, chunk = seen(policy, batch)
    slow, labels = policy.critic_target, policy.labels
    features, targets = slow.observe(view), labels.targets(view)
    if value_target == "data":
        others = 1 - folds(batch["episode_index"])
        usual, after = (
            slow.of_state(states)[others, range(len(chunk))] for states in (features, slow.observe(view, 1))
        )
    else:
        usual = torch.stack([slow(features, fixed[:, k]).mean(0) for k in range(5)]).mean(0)
        late = slow.observe(view, 1)
        after = torch.stack([slow(late, fixed[:, k]).mean(0) for k in range(5)]).mean(0)
    q = policy.critic(policy.critic.observe(view), chunk).mean(0)
    rewards = np.concatenate([walk["reward"] for walk in logs.walks])
    ends = np.repeat(np.cumsum(logs.lengths), logs.lengths)
    expected = []
    for row, frame in enumerate(batch["index"].tolist()):
        reached = float(q[row])
        if targets.usable[row]:
            reached = float(labels.clamp(targets.returns[row] + targets.bootstrap[row] * after[row]))
        earned = sum(CORRIDOR.discount**k * r for k, r in enumerate(rewards[frame : ends[frame]]))
        reached = (1 - share) * reached + share * earned / float(labels.scale)
        expected.append(min(100.0, np.exp(3.0 * (reached - float(usual[row])))))
    assert float(losses(policy, batch).parts["weight"]) == pytest.approx(np.mean(expected), rel=1e-9)


def test_what_was_cut_off_counts_with_the_smallest_value(logs):
    """With a cost of every step a walk that was cut off did not get away cheaply."""
    policy = build(logs, reward_source="step_cost")
    episode = next(n for n, walk in enumerate(logs.walks) if walk["truncated"][-1])
    first = int(logs.lengths[:episode].sum())
    batch = {"index": torch.tensor([first]), "episode_index": torch.tensor([episode])}
    steps = int(logs.lengths[episode])
    walked_on = -sum(CORRIDOR.discount**k for k in range(steps))
    expected = walked_on + CORRIDOR.discount**steps * float(policy.labels.low)
    assert float(policy.labels.earned(batch) * policy.labels.scale) == pytest.approx(expected)


def test_without_the_datasets_episodes_the_log_says_what_is_missing(logs, caplog):
    policy = build(logs, extraction="awr")
    policy.set_episodes(None)
    batch = logs.batch(np.arange(8), HORIZON)
    for _ in range(2):
        assert policy.forward(batch)[0].isfinite()
    said = [record for record in caplog.records if "returns of the dataset's episodes" in record.message]
    assert len(said) == 2
    assert "--policy.return_share=0" in said[0].message
    assert "--policy.cloned_return=0" in said[1].message


def test_no_episode_is_judged_by_the_network_that_knows_it(batch):
    learned = folds(batch["episode_index"])
    assert set(learned.tolist()) == {0, 1}
    assert torch.equal(judges(learned), 1 - learned)


@pytest.mark.parametrize("network", [[0, 1, 1, 0, 1], [1, 1, 1], [0]])
def test_each_state_is_valued_by_the_network_it_names(logs, network):
    """Also where one of the networks is asked about nothing; gradients reach only what was asked."""
    critic = build(logs, extraction="best_of_n").double().critic
    features = torch.rand(len(network), 32, dtype=torch.float64)
    chosen = torch.tensor(network)
    everyone = critic.of_state(features)[chosen, range(len(network))]
    found = critic.state_value(features, chosen)
    torch.testing.assert_close(found, everyone)
    weights = list(critic.of_state.parameters())
    for mine, theirs in zip(
        torch.autograd.grad(found.square().sum(), weights),
        torch.autograd.grad(everyone.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("extraction", ["best_of_n", "awr", "distill"])
def test_values_of_the_logs_lead_nearly_as_the_best_policy(logs, extraction):
    policy = train(
        logs, extraction=extraction, return_share=0.0, inverse_temperature=20.0, expectile=0.9, alpha=0.3
    )
    assert walked(policy) > 0.8 * CORRIDOR.returns(lambda cell: 1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("expectile", 1.0),
        ("expectile", 0.4),
        ("return_share", 1.5),
        ("cloned_return", 1.5),
        ("cloned_return", -0.1),
        ("filter_share", 0.0),
    ],
)
def test_shares_that_mean_nothing_are_refused(logs, field, value):
    with pytest.raises(ValueError, match=field):
        build(logs, **{field: value})


def test_where_returns_are_unknown_all_is_cloned_and_said_once(logs, batch, caplog):
    policy = shaken(logs, cloned_return=0.5)
    policy.set_episodes(None)
    counted = ~batch["action_is_pad"][:, 0]
    with caplog.at_level("WARNING"):
        for _ in range(2):
            cloned = policy._objective._imitated(SimpleNamespace(whole=batch, counted=counted))
            assert torch.equal(cloned, counted)
    assert caplog.text.count("all of them are cloned") == 1


@pytest.mark.parametrize("extraction", ["awr", "best_of_n", "distill"])
def test_only_good_episodes_are_cloned_and_all_are_valued(logs, batch, extraction):
    """How much each sample's flow error counts, and the critics' gradients, with and without a level."""

    def taught(level):
        policy = shaken(logs, extraction=extraction, cloned_return=level)
        errors = torch.ones(len(batch["index"]), dtype=torch.float64, requires_grad=True)
        policy._objective._flow_error = lambda *_: errors
        torch.manual_seed(1)
        losses(policy, batch).total.mean().backward()
        return errors.grad, [parameter.grad for parameter in policy.critic.parameters()]

    best = build(logs).labels.good(batch, 0.5)
    counted = ~batch["action_is_pad"][:, 0]
    assert 0 < int((best & counted).sum()) < int(counted.sum())
    (all_count, all_critics), (some_count, some_critics) = taught(0.0), taught(0.5)
    larger = int(counted.sum()) / int((best & counted).sum())
    torch.testing.assert_close(some_count, torch.where(best, all_count * larger, 0.0))
    for one, other in zip(some_critics, all_critics, strict=True):
        assert torch.equal(one, other)
