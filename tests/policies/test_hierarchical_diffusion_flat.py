# SPDX-License-Identifier: Apache-2.0
"""Policies with some layers and with none; with none, LeRobot's diffusion policy loss for loss."""

from __future__ import annotations

import itertools

import pytest
import torch
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot_policy_hierarchical_diffusion.configuration_hierarchical_diffusion import LAYER_NAMES
from lerobot_policy_hierarchical_diffusion.slow_layers import SlowLayers
from lerobot_policy_hierarchical_diffusion.stock_diffusion import stock_config

SUBSETS = [s for n in range(5) for s in itertools.combinations(LAYER_NAMES, n)]
FLAT = {
    "layers": (),
    "observation_encoder": "stock",
    "denoiser": "unet",
    "unet_dims": (16, 32),
    "ema_decay": 0.0,
    "prediction_type": "epsilon",
}


@pytest.mark.parametrize("layers", SUBSETS, ids=lambda layers: "+".join(layers) or "none")
def test_any_subset_of_layers_trains_and_plans(make_policy, make_batch, make_observation, layers):
    policy = make_policy(layers=layers, state=5, action=3, cameras=1).train()
    loss, log = policy.forward(make_batch(policy.config))
    assert loss.isfinite()
    assert set(log) == {"diffusion_loss", *(f"hierarchical/{name}_loss" for name in layers)}
    loss.backward()
    assert not [n for n, p in policy.named_parameters() if p.requires_grad and p.grad is None]
    policy.eval()
    for seed in range(10):
        action = policy.select_action(make_observation(policy.config, seed=seed))
        assert action.shape == (1, 3)
        assert action.isfinite().all()
    assert policy.last_info["active_layers"] == list(layers)


@pytest.mark.parametrize("budget_ms", [1e-3, 1e4])
@pytest.mark.parametrize("layers", [(), ("manipulation",), ("dynamics", "planning"), ("safety", "planning")])
def test_any_subset_keeps_a_budget(make_policy, make_observation, layers, budget_ms):
    policy = make_policy(layers=layers, latency_budget_ms=budget_ms).eval()
    policy.select_action(make_observation(policy.config))
    ran = policy.last_info["active_layers"]
    fewest = [name for name in layers if name == "safety"]
    assert ran == (list(layers) if budget_ms > 1 else fewest)


def test_layers_are_put_in_priority_order_and_unknown_or_doubled_ones_refused(make_config):
    assert make_config(layers=("planning", "safety")).layers == ("safety", "planning")
    for wrong in (("gait",), ("safety", "safety")):
        with pytest.raises(ValueError, match=r"`layers` \(.*\) must name some of safety, dynamics"):
            make_config(layers=wrong)


def test_a_policy_without_the_draft_cannot_be_asked_for_it(make_config):
    with pytest.raises(ValueError, match=r"`num_inference_steps` \(0\).*`layers`.*take at least 1 step"):
        make_config(layers=("safety",), num_inference_steps=0)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"depths": 1}, r"`observation_encoder` \('stock'\).*`observation_encoder=mlp`"),
        ({"cameras": 2}, r"`observation_encoder` \('stock'\).*of one shape"),
    ],
)
def test_the_stock_encoder_refuses_what_it_cannot_read(make_policy, features, message):
    with pytest.raises(ValueError, match=message):
        make_policy(**FLAT, **features)


@pytest.mark.parametrize("cameras", [0, 1])
@pytest.mark.parametrize("training", [True, False])
def test_without_layers_the_loss_is_lerobots_own(make_policy, make_batch, cameras, training):
    ours = make_policy(**FLAT, cameras=cameras, state=6, action=5)
    theirs = DiffusionPolicy(stock_config(ours.config))
    weights = {
        name.replace("network.denoiser.", "diffusion.").replace("network.observation.", "diffusion."): tensor
        for name, tensor in ours.state_dict().items()
        if name.startswith(("network.denoiser.", "network.observation."))
    }
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not missing
    assert not unexpected

    batch = make_batch(ours.config, size=4)
    now = ours.network.window.observation[-1]
    stock_batch = dict(batch) | {name: batch[name][:, now : now + 1] for name in ours.config.input_features}
    torch.manual_seed(3)
    expected, _ = theirs.train(training).forward(stock_batch)
    ours.train(training)
    observation = ours.observation_from_batch(batch)
    frames = ours.network.frames(observation)
    torch.manual_seed(3)
    losses = ours.network.losses(observation, frames, ours.targets(batch, frames))
    # Means of the samples' means, and of all numbers, differ in the last bit.
    torch.testing.assert_close(losses["diffusion"].mean(), expected, rtol=1e-6, atol=0)
    if not training:
        torch.manual_seed(3)
        torch.testing.assert_close(ours.forward(batch)[0], expected, rtol=1e-6, atol=0)


def test_a_layer_alone_knows_what_it_owns(make_policy, make_batch):
    """Changing what a layer owns changes the condition only while the layer's features are used."""
    policy = make_policy(state=4, action=4, env=3, cameras=1).eval()
    network = policy.network
    batch = make_batch(policy.config, size=2)
    window = network.window
    longer = [p for p in window.motion if p not in window.history and p not in window.memory]
    changes = {
        "safety": ("action", (slice(None), 0)),
        "dynamics": ("observation.state", (slice(None), longer)),
        "manipulation": ("observation.images.cam0", (slice(None), [window.observation[-1]])),
        "planning": ("observation.state", (slice(None), [window.memory[0]])),
    }

    def condition(batch, kept):
        observation = policy.observation_from_batch(batch)
        inputs = network.layer_inputs(observation, network.frames(observation))
        mask = network.fixed_mask(2, torch.device("cpu"), kept)
        return network.condition(inputs, network.run_layers(inputs, mask), mask)

    for name, (key, where) in changes.items():
        changed = dict(batch) | {key: batch[key].clone()}
        changed[key][where] += 0.3
        others = frozenset(LAYER_NAMES) - {name}
        assert torch.equal(condition(batch, others), condition(changed, others)), name
        everyone = frozenset(LAYER_NAMES)
        assert not torch.equal(condition(batch, everyone), condition(changed, everyone)), name


def test_planning_runs_every_so_many_chunks(make_policy, make_observation):
    policy = make_policy(planning_interval=3, n_action_steps=1).eval()
    runs = []
    layer = policy.average.layers["planning"]
    layer.register_forward_hook(lambda *_: runs.append(frame))
    for frame in range(7):
        policy.select_action(make_observation(policy.config, seed=frame))
        assert "planning" in policy.last_info["active_layers"]
    assert runs == [0, 3, 6]
    policy.reset()
    frame = 7
    policy.select_action(make_observation(policy.config))
    assert runs == [0, 3, 6, 7]


def test_outputs_of_another_number_of_robots_do_not_serve(make_policy, make_batch):
    policy = make_policy(planning_interval=3).eval()
    network, slow = policy.network, SlowLayers({"planning": 3})
    for size in (2, 3):
        batch = make_batch(policy.config, size=size)
        observation = policy.observation_from_batch(batch)
        network.plan(observation, None, 1, frozenset(LAYER_NAMES), slow=slow)
    assert len(slow.recall("planning", 3).features) == 3


def test_planning_shifts_the_draft(make_policy, make_batch):
    """What the task's text says reaches the draft, of which the manipulation layer knows nothing."""
    policy = make_policy(num_inference_steps=0, ema_decay=0.0).eval()
    torch.nn.init.normal_(policy.network.layers["planning"].shift.weight)
    batch = make_batch(policy.config, size=2)

    def draft(task):
        return policy.predict_action_chunk(dict(batch) | {"task": [task] * 2})

    assert not torch.equal(draft("left"), draft("right"))
    told = policy.last_info["layers"]
    expected = told["manipulation"]["draft"] + told["planning"]["draft_shift"]
    torch.testing.assert_close(draft("right"), expected)
    policy.set_layer_enabled("planning", False)
    assert torch.equal(draft("left"), draft("right"))
    torch.testing.assert_close(draft("left"), policy.last_info["layers"]["manipulation"]["draft"])
