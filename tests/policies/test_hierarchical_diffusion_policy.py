# SPDX-License-Identifier: Apache-2.0
"""What is the policy's own: its losses, statistics, layers and limits.

What every policy must keep is in `test_hierarchical_diffusion_contract.py`.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from lerobot.policies.factory import make_pre_post_processors
from lerobot_policy_hierarchical_diffusion import HierarchicalDiffusionConfig
from lerobot_policy_hierarchical_diffusion.configuration_hierarchical_diffusion import LAYER_NAMES
from lerobot_policy_hierarchical_diffusion.modeling_hierarchical_diffusion import HierarchicalDiffusionPolicy

SHAPES = [
    pytest.param({"state": 4, "action": 4, "env": 3}, id="state-and-environment"),
    pytest.param({"state": 7, "action": 5, "env": 0}, id="state-only-odd-widths"),
    pytest.param(
        {"state": 5, "action": 5, "env": 2, "cameras": 1, "n_obs_steps": 2}, id="one-camera-two-steps"
    ),
    pytest.param({"state": 3, "action": 5, "env": 0, "cameras": 2}, id="two-cameras-of-different-size"),
    pytest.param({"state": 4, "action": 4, "cameras": 1, "vision_backbone": "resnet18"}, id="resnet18"),
    pytest.param({"state": 4, "action": 4, "denoiser": "unet", "unet_dims": (16, 32)}, id="unet"),
    pytest.param(
        {"state": 4, "action": 4, "prediction_type": "epsilon", "ema_decay": 0.0}, id="epsilon-no-ema"
    ),
]


def stats_for(config):
    generator = torch.Generator().manual_seed(7)
    stats = {}
    for name, feature in {**config.input_features, **config.output_features}.items():
        shape = (3, 1, 1) if len(feature.shape) == 3 else feature.shape
        low = torch.rand(shape, generator=generator) - 2
        stats[name] = {"min": low, "max": low + 3, "mean": low + 1.5, "std": torch.full(shape, 0.7)}
    return stats


# ---- names and configuration ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_action_steps": 17}, r"`n_action_steps` \(17\).*`horizon` \(16\); lower it"),
        ({"num_inference_steps": 17}, r"`num_inference_steps` \(17\) must lie in 0..16"),
        ({"history_steps": 1}, r"`history_steps` \(1\) must be at least 2"),
        ({"manipulation_dim": 15}, r"`manipulation_dim` \(15\).*multiple of `attention_heads` \(2\)"),
        ({"denoiser": "transformer"}, r"`denoiser` \('transformer'\) is unknown; choose one of mlp, unet"),
        (
            {"denoiser": "unet", "horizon": 18, "unet_dims": (8, 16, 32)},
            r"`horizon` \(18\) must be a multiple of 4",
        ),
        ({"layer_weights": {"gait": 1.0}}, r"`layer_weights` names gait; the layers are safety, dynamics"),
        ({"layer_weights": {"safety": -1.0}}, r"`layer_weights\['safety'\]` \(-1.0\)"),
        ({"layer_dropout": 1.5}, r"`layer_dropout` \(1.5\) must lie in \[0, 1\)"),
        ({"draft_noise": 0.0}, r"`draft_noise` \(0.0\) must lie in \(0, 1\]"),
        ({"ema_decay": 1.0}, r"`ema_decay` \(1.0\)"),
        ({"image_size": (16, 96)}, r"`image_size`"),
    ],
)
def test_bad_configuration_names_field_value_and_remedy(make_config, fields, message):
    with pytest.raises(ValueError, match=message):
        make_config(**fields)


def test_missing_state_says_what_to_do(make_config):
    config = make_config()
    del config.input_features["observation.state"]
    with pytest.raises(ValueError, match=r"`observation.state` is missing.*rename_map"):
        HierarchicalDiffusionPolicy(config)


def test_default_configuration_is_small(make_config):
    config = HierarchicalDiffusionConfig(
        device="cpu",
        input_features=make_config(state=6, action=6, env=7).input_features,
        output_features=make_config(state=6, action=6).output_features,
    )
    policy = HierarchicalDiffusionPolicy(config)
    assert 1e6 < sum(p.numel() for p in policy.network.parameters()) < 2.5e6


# ---- losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_is_finite_and_backward_reaches_every_trainable_parameter(make_policy, make_batch, shape):
    policy = make_policy(**shape)
    policy.train()
    loss, log = policy.forward(make_batch(policy.config))
    assert loss.shape == ()
    assert loss.isfinite()
    assert set(log) == {"diffusion_loss", *(f"hierarchical/{name}_loss" for name in LAYER_NAMES)}
    assert all(isinstance(value, float) for value in log.values())
    loss.backward()
    missing = [n for n, p in policy.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    optimised = {id(p) for group in policy.get_optim_params() for p in group["params"]}
    assert optimised == {id(p) for p in policy.parameters() if p.requires_grad}


def test_an_unknown_reduction_is_named(make_policy, make_batch):
    policy = make_policy()
    batch = make_batch(policy.config)
    with pytest.raises(ValueError, match="`reduction` \\('sum'\\)"):
        policy.forward(batch, reduction="sum")


@pytest.mark.parametrize("denoiser", ["mlp"])
def test_losses_ignore_padded_actions_and_states(make_policy, make_batch, denoiser):
    # Noise levels and masks are drawn alike; what is padded differs, and enters neither loss nor statistics.
    policy = make_policy(denoiser=denoiser)
    policy.train()
    clean = make_batch(policy.config, size=4)
    clean["action_is_pad"][:, 10:] = True
    window = policy.network.window
    clean["observation.state_is_pad"][:, window.future[1:]] = True
    other = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in clean.items()}
    other["action"][:, 10:] = 77.0
    losses = []
    for batch in (clean, other):
        torch.manual_seed(5)
        fresh = make_policy(denoiser=denoiser)
        torch.manual_seed(5)
        frames = fresh.network.frames(fresh.observation_from_batch(batch))
        targets = fresh.targets(batch, frames)
        inputs = fresh.network.layer_inputs(fresh.observation_from_batch(batch), frames)
        outputs = fresh.network.run_layers(inputs, torch.ones(4, len(LAYER_NAMES)), targets)
        losses.append({n: o.loss for n, o in outputs.items()})
    for name in LAYER_NAMES:
        torch.testing.assert_close(losses[0][name], losses[1][name], msg=name)


def test_diffusion_loss_does_not_count_padded_targets(make_policy, make_batch):
    policy = make_policy()
    batch = make_batch(policy.config, size=2)
    observation = policy.observation_from_batch(batch)
    frames = policy.network.frames(observation)
    targets = policy.targets(batch, frames)
    condition = torch.zeros(2, 2 * policy.config.condition_dim)
    policy.network.denoiser.forward = lambda noisy, timestep, condition: torch.zeros_like(noisy)
    targets.actions_valid[:, 4:] = False
    expected = batch["action"][:, 1:5].square().mean((1, 2))
    torch.testing.assert_close(policy.network.diffusion_loss(condition, targets), expected)


def test_diffusion_gradient_reaches_the_features_of_every_layer(make_policy, make_batch):
    policy = make_policy()
    network = policy.network.train()
    batch = make_batch(policy.config, size=8)
    observation = policy.observation_from_batch(batch)
    frames = network.frames(observation)
    targets = policy.targets(batch, frames)
    inputs = network.layer_inputs(observation, frames)
    outputs = network.run_layers(inputs, torch.ones(8, len(LAYER_NAMES)), targets)
    for output in outputs.values():
        output.features.retain_grad()
    condition = network.condition(inputs, outputs, torch.ones(8, len(LAYER_NAMES)))
    network.diffusion_loss(condition, targets).mean().backward()
    for name, output in outputs.items():
        assert output.features.grad is not None, name
        assert output.features.grad.abs().max() > 1e-8, name


def test_evaluation_loss_works_without_gradients_and_uses_the_average(make_policy, make_batch):
    policy = make_policy()
    batch = make_batch(policy.config)
    policy.eval()
    with torch.no_grad():
        for parameter in policy.average.parameters():
            parameter.zero_()
        loss, log = policy.forward(batch)
    assert loss.isfinite()
    torch.testing.assert_close(
        log["diffusion_loss"], batch["action"][:, 1:].square().mean().item()
    )  # a dead network predicts 0


def test_wrong_number_of_frames_names_the_frames(make_policy, make_batch):
    policy = make_policy()
    batch = make_batch(policy.config)
    batch["observation.state"] = batch["observation.state"][:, :3]
    with pytest.raises(ValueError, match=r"`observation.state` has 3 frames; training needs the 34 at \[-56"):
        policy.forward(batch)


def test_update_counts_steps_and_averages_weights(make_policy):
    policy = make_policy(ema_decay=0.5)
    with torch.no_grad():
        policy.network.fusion.nulls.fill_(1.0)
        policy.average.fusion.nulls.fill_(0.0)
        policy.network.motion.count.fill_(9.0)
    policy.update()  # the first steps average faster: decay 0.1, then 2 / 11
    torch.testing.assert_close(policy.average.fusion.nulls, torch.full_like(policy.network.fusion.nulls, 0.9))
    assert policy.average.motion.count == 9.0
    policy.update()
    expected = 1.0 - 0.1 * 2 / 11
    torch.testing.assert_close(
        policy.average.fusion.nulls, torch.full_like(policy.network.fusion.nulls, expected)
    )
    assert policy.train_step == 2


def test_a_joint_that_never_moves_is_no_violation(make_policy, make_config, make_batch):
    config = make_config()
    stats = stats_for(config)
    stats["observation.state"]["max"][1] = stats["observation.state"]["min"][1]
    policy = make_policy(stats=stats, velocity_quantile=0.99).train()
    batch = make_batch(config, size=64)
    for _ in range(3):
        policy.forward(batch)
    frames = policy.network.frames(policy.observation_from_batch(batch))
    outputs = policy.network.run_layers(
        policy.network.layer_inputs(policy.observation_from_batch(batch), frames),
        torch.ones(64, len(LAYER_NAMES)),
        policy.targets(batch, frames),
    )
    assert outputs["safety"].info["label"].mean() < 0.5


def test_randomness_belongs_to_the_step(make_policy, make_batch):
    policy = make_policy(ema_decay=0.0).train()
    batch = make_batch(policy.config)

    def diffusion_loss():
        return policy.forward(batch)[1]["diffusion_loss"]

    first, second = diffusion_loss(), diffusion_loss()
    assert first != second  # two calls in a step
    before = torch.get_rng_state()
    policy.update()
    assert diffusion_loss() not in (first, second)
    assert torch.equal(before, torch.get_rng_state())
    policy.train_step.zero_()
    policy._calls_in_step = 0
    torch.rand(5)  # what a data loader draws does not matter
    assert diffusion_loss() == first


# ---- inference -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_action_shapes_and_limits(make_policy, make_config, make_observation, shape):
    policy = make_policy(stats=stats_for(make_config(**shape)), **shape).eval()
    config, size = policy.config, 3
    width = config.action_feature.shape[0]
    chunk = policy.predict_action_chunk(make_observation(config, size))
    assert chunk.shape == (size, config.horizon, width)
    limit = 1 + 2 * config.limit_margin + 1e-5
    assert chunk.abs().max() <= limit
    policy.reset()
    for step in range(config.n_action_steps + 2):
        action = policy.select_action(make_observation(config, size, seed=step))
        assert action.shape == (size, width)
    info = policy.last_info
    assert info["steps"] == config.num_inference_steps
    assert info["emergency_score"].shape == (size,)
    assert set(info["layers"]) == set(LAYER_NAMES)
    assert info["ms"]["total"] >= info["ms"]["denoise"] > 0
    assert info["started_from"] == "draft"


def test_limits_clip_actions(make_policy, make_config, make_observation):
    config = make_config()
    policy = make_policy(stats=stats_for(config)).eval()
    with torch.no_grad():
        policy.average.layers["manipulation"].shortcut.bias.fill_(9.0)
    chunk = policy.predict_action_chunk(make_observation(config), num_inference_steps=0)
    torch.testing.assert_close(chunk, torch.full_like(chunk, 1.1))
    assert policy.last_info["clipped"] == chunk.numel()


def test_memory_gives_training_windows(make_policy, make_observation):
    """The frames a running policy remembers are the ones a dataset would have stacked, padding included."""
    policy = make_policy(cameras=1, n_obs_steps=2).eval()
    stream = [make_observation(policy.config, 1, seed=t) for t in range(20)]
    for t, observation in enumerate(stream):
        policy.select_action(observation)
        remembered = policy._memory.observation(observation["task"])
        for position, offset in enumerate(policy.network.window.past):
            expected = stream[max(0, t + offset)]
            assert torch.equal(remembered.state[:, position], expected["observation.state"])
            assert torch.equal(remembered.environment[:, position], expected["observation.environment_state"])
        for position, offset in enumerate((-1, 0)):
            expected = stream[max(0, t + offset)]["observation.images.cam0"]
            assert torch.equal(remembered.images[0][:, position], expected)


def test_future_frames_do_not_change_the_plan(make_policy, make_batch):
    policy = make_policy(cameras=1).eval()
    batch = make_batch(policy.config)
    noise = torch.randn(3, policy.config.horizon, 4)
    before = policy.predict_action_chunk(batch, noise=noise)
    future = list(policy.network.window.ahead)
    for name in policy.config.input_features:
        batch[name][:, future] = 5.0
    assert torch.equal(policy.predict_action_chunk(batch, noise=noise), before)


def test_changed_number_of_robots_asks_for_a_reset(make_policy, make_observation):
    policy = make_policy().eval()
    policy.select_action(make_observation(policy.config, 2))
    with pytest.raises(ValueError, match="batch size 3 after 2; call `reset\\(\\)`"):
        policy.select_action(make_observation(policy.config, 3))


@pytest.mark.parametrize("off", [s for n in range(4) for s in itertools.combinations(LAYER_NAMES[1:], n)])
def test_every_subset_of_layers_runs(make_policy, make_observation, off):
    policy = make_policy().eval()
    for name in off:
        policy.set_layer_enabled(name, False)
    noise = torch.randn(2, policy.config.horizon, 4)
    chunk = policy.predict_action_chunk(make_observation(policy.config, 2), noise=noise)
    assert chunk.isfinite().all()
    assert policy.last_info["active_layers"] == [n for n in LAYER_NAMES if n not in off]
    assert policy.last_info["started_from"] == ("noise" if "manipulation" in off else "draft")
    for name in off:
        policy.set_layer_enabled(name, True)
    again = policy.predict_action_chunk(make_observation(policy.config, 2), noise=noise)
    assert torch.equal(chunk, again) == (not off)


def test_layer_switch_rejects_nonsense(make_policy):
    policy = make_policy()
    with pytest.raises(ValueError, match="`name` \\('gait'\\) is no layer"):
        policy.set_layer_enabled("gait", False)
    with pytest.raises(ValueError, match="safety layer cannot be switched off"):
        policy.set_layer_enabled("safety", False)


def test_draft_is_returned_without_denoising(make_policy, make_observation):
    policy = make_policy().eval()
    observation = make_observation(policy.config, 2)
    chunk = policy.predict_action_chunk(observation, num_inference_steps=0)
    assert torch.equal(chunk, policy.last_info["layers"]["manipulation"]["draft"])
    assert torch.equal(chunk, policy.predict_action_chunk(observation, num_inference_steps=0))
    with pytest.raises(ValueError, match="`num_inference_steps` \\(17\\)"):
        policy.predict_action_chunk(observation, num_inference_steps=17)


def test_missing_task_equals_empty_task(make_policy, make_observation):
    policy = make_policy().eval()
    noise = torch.randn(1, policy.config.horizon, 4)
    observation = make_observation(policy.config)
    with_task = policy.predict_action_chunk(observation, noise=noise)
    empty = policy.predict_action_chunk({**observation, "task": [""]}, noise=noise)
    del observation["task"]
    assert torch.equal(policy.predict_action_chunk(observation, noise=noise), empty)
    assert not torch.equal(with_task, empty)


# ---- checkpoints ---------------------------------------------------------------------------------


def test_training_from_a_checkpoint_takes_the_new_limits_and_starts_a_missing_average(
    make_policy, make_config, tmp_path
):
    config = make_config(ema_decay=0.0)
    make_policy(stats=stats_for(config), ema_decay=0.0).save_pretrained(tmp_path)
    wider = stats_for(config)
    wider["observation.environment_state"]["max"][0] = wider["observation.environment_state"]["min"][0]
    loaded = HierarchicalDiffusionPolicy.from_pretrained(tmp_path, config=make_config(), dataset_stats=wider)
    for trained, averaged in zip(loaded.network.parameters(), loaded.average.parameters(), strict=True):
        assert torch.equal(trained, averaged)
    for network in (loaded.network, loaded.average):
        assert network.limits.env_varies.tolist() == [0.0, 1.0, 1.0]


def test_a_state_with_the_environment_in_its_tail_is_split(make_config):
    config = make_config()  # 4 joints, 3 environment numbers
    pre, _ = make_pre_post_processors(config, dataset_stats=stats_for(config))
    together = torch.rand(7)
    apart = {"observation.state": together[:4].clone(), "observation.environment_state": together[4:].clone()}
    from_tail, from_keys = pre({"observation.state": together}), pre(apart)
    for name in config.input_features:
        assert torch.equal(from_tail[name], from_keys[name])


# ---- learning ------------------------------------------------------------------------------------


def test_overfits_a_batch(make_policy, make_batch):
    policy = make_policy(
        condition_dim=64, denoiser_dim=64, manipulation_dim=32, layer_dropout=0.0, ema_decay=0.9
    )
    batch = make_batch(policy.config, size=8)
    policy.train()
    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    for _ in range(200):
        policy.forward(batch)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
    policy.eval()
    error = (policy.predict_action_chunk(batch) - batch["action"][:, 1:]).abs().mean().item()
    untrained = (
        (make_policy().eval().predict_action_chunk(batch) - batch["action"][:, 1:]).abs().mean().item()
    )
    assert error < 0.3 * untrained, (error, untrained)
