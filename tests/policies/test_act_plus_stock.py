# SPDX-License-Identifier: Apache-2.0
"""With every flag off act_plus is LeRobot's ACT: weights, losses, gradients and actions, to the bit."""

import pytest
import torch
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from small_act import act_config, act_plus, observation, training_batch

SHAPES = {
    "state and environment": {"env": 3},
    "two cameras": {"cameras": 2},
    "cameras and environment": {"cameras": 1, "env": 2},
}
VARIANTS = {
    "plain": {},
    "no vae": {"use_vae": False},
    "pre-norm": {"pre_norm": True, "n_decoder_layers": 2},
    "ensemble": {"temporal_ensemble_coeff": 0.01, "n_action_steps": 1},
}


def stock(shape, **fields):
    config = act_config(ACTConfig, shape=shape, **fields)
    torch.manual_seed(0)
    return ACTPolicy(config)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_all_flags_off_is_stock_act_to_the_bit(shape, variant):
    theirs, ours = stock(shape, **variant), act_plus(shape=shape, **variant)
    assert {k: v.shape for k, v in theirs.state_dict().items()} == {
        k: v.shape for k, v in ours.state_dict().items()
    }
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, ours.state_dict()[name]), name
    batch = training_batch(theirs.config)
    logs = []
    for policy in (theirs, ours):
        torch.manual_seed(1)
        loss, log = policy.train().forward(batch)
        loss.backward()
        logs.append((loss, log))
    assert torch.equal(logs[0][0], logs[1][0])
    assert logs[0][1] == logs[1][1]
    for (name, mine), other in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert (mine.grad is None) == (other.grad is None), name
        assert mine.grad is None or torch.equal(mine.grad, other.grad), name
    for policy in (theirs, ours):
        policy.reset()
    for step in range(10):
        seen = observation(theirs.config, 2, seed=step)
        assert torch.equal(theirs.select_action(seen), ours.select_action(seen)), step
    seen = observation(theirs.config, 2)
    assert torch.equal(theirs.predict_action_chunk(seen), ours.predict_action_chunk(seen))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("training", [True, False])
def test_the_parts_together_are_stock_acts_forward_to_the_bit(shape, training):
    policy = act_plus(shape=shape, pre_norm=True).train(training)
    batch = training_batch(policy.config)
    batch["observation.images"] = [batch[key] for key in policy.config.image_features]
    if not policy.config.image_features:
        del batch["observation.images"]
    found = []
    for forward in (policy.model.forward, policy.model.forward_in_parts):
        torch.manual_seed(3)
        found.append(forward(batch))
    (actions, (mu, sigma)), (other, (other_mu, other_sigma)) = found
    assert torch.equal(actions, other)
    assert (mu is None) == (not training) == (other_mu is None)
    assert mu is None or (torch.equal(mu, other_mu) and torch.equal(sigma, other_sigma))


def test_the_losses_of_samples_average_to_stock_acts_loss():
    policy = act_plus(shape={"cameras": 1}).train()
    batch = training_batch(policy.config)
    torch.manual_seed(1)
    mean, log = policy.forward(batch)
    torch.manual_seed(1)
    each, each_log = policy.forward(batch, reduction="none")
    assert each.shape == (4,)
    assert torch.allclose(each.mean(), mean, rtol=1e-6)
    assert each_log == pytest.approx(log, rel=1e-5)


def test_weights_of_stock_act_load_and_act_the_same(tmp_path):
    theirs = stock({"env": 3})
    theirs.save_pretrained(tmp_path / "act")
    ours = act_plus(shape={"env": 3}, seed=5)
    assert not torch.equal(ours.model.action_head.weight, theirs.model.action_head.weight)
    loaded = type(ours).from_pretrained(tmp_path / "act", config=ours.config, strict=True)
    seen = observation(ours.config)
    assert torch.equal(theirs.predict_action_chunk(seen), loaded.predict_action_chunk(seen))


@pytest.mark.parametrize(
    "flags",
    [{"prefix_steps": 4}, {"depth_fusion": "early"}, {"depth_fusion": "cross"}],
    ids=lambda flags: " ".join(map(str, flags.values())),
)
def test_a_part_that_is_added_to_a_trained_policy_changes_nothing_at_first(tmp_path, flags):
    theirs = stock({"cameras": 1})
    theirs.save_pretrained(tmp_path / "act")
    shape = {"cameras": 1, "depths": int("depth_fusion" in flags)}
    config = act_config(shape=shape, **flags)
    ours = type(act_plus()).from_pretrained(tmp_path / "act", config=config)
    seen = observation(config)
    planned = ours.predict_action_chunk(seen, inference_delay=0, prev_chunk_left_over=None)
    assert torch.allclose(theirs.predict_action_chunk(seen), planned, atol=1e-5)
