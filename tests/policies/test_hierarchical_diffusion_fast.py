# SPDX-License-Identifier: Apache-2.0
"""What is computed once per chunk, or in another order, gives the numbers of the plain network."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from lerobot_policy_hierarchical_diffusion.fast.conditioned import Conditioned
from lerobot_policy_hierarchical_diffusion.fast.unet import short_conv1d
from lerobot_policy_hierarchical_diffusion.sampling import ddim_sample, make_chain, make_scheduler
from torch import nn

TIMESTEPS = (75, 50, 25, 0)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
"""Sums in another order: largest difference seen at full size 2e-6, of predictions around 1."""


def plain(denoiser, condition, timestep):
    return lambda noisy: denoiser(noisy, torch.full((len(noisy),), timestep), condition)


@pytest.fixture
def make_denoiser(make_policy):
    def make(kind="mlp", **fields):
        config = make_policy(denoiser=kind, **fields).config
        denoiser = make_policy(denoiser=kind, **fields).average.denoiser.eval()
        return denoiser, config

    return make


@pytest.mark.parametrize("kind", ["mlp", "unet"])
@pytest.mark.parametrize(("batch", "action", "horizon"), [(1, 4, 16), (2, 5, 8), (3, 16, 32)])
@torch.no_grad()
def test_fast_steps_give_the_denoisers_predictions(make_denoiser, kind, batch, action, horizon):
    denoiser, config = make_denoiser(kind, action=action, horizon=horizon)
    noisy, condition = torch.randn(batch, horizon, action), torch.randn(batch, 2 * config.condition_dim)
    conditioned = Conditioned(denoiser, condition)
    assert conditioned.is_fast
    predict = conditioned.over(TIMESTEPS)
    for step, timestep in enumerate(TIMESTEPS):
        torch.testing.assert_close(predict(noisy, step), plain(denoiser, condition, timestep)(noisy), **CLOSE)


@torch.no_grad()
def test_a_unet_that_only_shifts_is_fast_too():
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionConditionalUnet1d
    from lerobot_policy_hierarchical_diffusion.fast.unet import FastUNet

    config = DiffusionConfig(
        horizon=16,
        n_action_steps=1,
        down_dims=(16, 32, 64),
        use_film_scale_modulation=False,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (3,))},
        device="cpu",
    )
    unet, condition, noisy = DiffusionConditionalUnet1d(config, 10), torch.randn(1, 10), torch.randn(1, 16, 3)
    predict = FastUNet(unet, condition).over(torch.tensor(TIMESTEPS))
    for step, timestep in enumerate(TIMESTEPS):
        expected = unet(noisy, torch.tensor([timestep]), condition)
        torch.testing.assert_close(predict(noisy, step), expected, **CLOSE)


@pytest.mark.parametrize("kind", ["mlp", "unet"])
@torch.no_grad()
def test_fast_steps_follow_weights_that_change_behind_autograds_back(make_denoiser, kind):
    denoiser, config = make_denoiser(kind)
    noisy, condition = torch.randn(1, 16, 4), torch.randn(1, 2 * config.condition_dim)
    before = Conditioned(denoiser, condition).over(TIMESTEPS)(noisy, 0)
    for parameter in denoiser.parameters():
        parameter.data.mul_(1.1)  # as the averaging of weights does: no version counter tells of it
    after = Conditioned(denoiser, condition).over(TIMESTEPS)(noisy, 0)
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, plain(denoiser, condition, TIMESTEPS[0])(noisy), **CLOSE)


def test_plans_follow_a_training_between_them(make_policy, make_batch, make_observation):
    policy = make_policy(denoiser="unet").eval()
    noise = torch.randn(1, policy.config.horizon, 4)
    observation = make_observation(policy.config)

    def plans():
        policy.eval()
        denoiser = policy.average.denoiser
        fast = policy.predict_action_chunk(observation, noise=noise)
        handle = denoiser.register_forward_hook(lambda *_: None)  # no longer plain: called as it is
        slow = policy.predict_action_chunk(observation, noise=noise)
        handle.remove()
        torch.testing.assert_close(fast, slow, **CLOSE)
        return fast

    seen = [plans()]
    optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=1e-2)
    for _ in range(2):
        policy.train()
        loss, _ = policy.forward(make_batch(policy.config))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        policy.update()
        seen.append(plans())
    weights = make_policy(denoiser="unet").state_dict()
    policy.load_state_dict(
        {name: value + 0.01 for name, value in weights.items() if value.is_floating_point()}, strict=False
    )
    seen.append(plans())
    for earlier, later in pairwise(seen):
        assert not torch.equal(earlier, later)


@pytest.mark.parametrize("kind", ["mlp", "unet"])
@torch.no_grad()
def test_a_denoiser_with_an_adapter_is_called_as_it_is(make_denoiser, kind):
    class Adapted(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1.0

    denoiser, config = make_denoiser(kind)
    part = denoiser.blocks[0].film if kind == "mlp" else denoiser.unet.mid_modules[0].cond_encoder
    name, linear = next((n, m) for n, m in part.named_children() if isinstance(m, nn.Linear))
    adapted = Adapted(linear.in_features, linear.out_features)
    part.register_module(name, adapted)
    noisy, condition = torch.randn(2, 16, 4), torch.randn(2, 2 * config.condition_dim)
    conditioned = Conditioned(denoiser, condition)
    assert not conditioned.is_fast
    expected = plain(denoiser, condition, TIMESTEPS[1])(noisy)
    torch.testing.assert_close(conditioned.over(TIMESTEPS)(noisy, 1), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("channels", "frames", "kernel", "stride", "padding"),
    [(3, 8, 5, 1, 2), (8, 16, 3, 2, 1), (5, 4, 1, 1, 0), (4, 1, 5, 1, 2), (4, 7, 3, 2, 1)],
)
@pytest.mark.parametrize("batch", [1, 2])
@torch.no_grad()
def test_a_short_convolution_is_a_matrix_product(channels, frames, kernel, stride, padding, batch):
    conv = nn.Conv1d(channels, 6, kernel, stride, padding).double()
    x = torch.randn(batch, channels, frames, dtype=torch.float64)
    torch.testing.assert_close(short_conv1d(conv, x), conv(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prediction_type", ["sample", "epsilon"])
@pytest.mark.parametrize(("steps", "start"), [(1, 1.0), (4, 0.4), (10, 1.0), (7, 0.9)])
def test_a_chains_step_is_the_schedulers(prediction_type, steps, start):
    scheduler = make_scheduler(100, "squaredcos_cap_v2", prediction_type)
    chain = make_chain(scheduler, steps, start)
    sample, predicted = torch.randn(2, 16, 4), torch.randn(2, 16, 4)
    for number, timestep in enumerate(chain.timesteps):
        expected = chain.scheduler.step(predicted, timestep, sample).prev_sample
        torch.testing.assert_close(chain.step(number, predicted, sample), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_sampling_is_the_same_fast_or_step_by_step(make_denoiser):
    denoiser, config = make_denoiser("unet")
    scheduler = make_scheduler(100, "squaredcos_cap_v2", "sample")
    noise, draft = torch.randn(1, 16, 4), torch.randn(1, 16, 4)
    condition = torch.randn(1, 2 * config.condition_dim)
    conditioned = Conditioned(denoiser, condition)
    chunks = [
        ddim_sample(scheduler, denoise, noise, steps=4, draft=draft, draft_noise=0.4)
        for denoise in (conditioned, lambda noisy, timestep: denoiser(noisy, timestep, condition))
    ]
    torch.testing.assert_close(*chunks, **CLOSE)


def counted(vision, monkeypatch):
    """How many frames each call of the cameras' networks encodes."""
    calls = []
    look = vision.look

    def counting(images):
        calls.append(images[0].shape[1])
        return look(images)

    monkeypatch.setattr(vision, "look", counting)
    return calls


def frames_of(vision, steps, batch=1):
    return [torch.randn(batch, steps, *f.shape) for f in vision.config.image_features.values()]


@torch.no_grad()
def test_a_frame_is_encoded_once_and_gives_the_same_features(make_policy, monkeypatch):
    vision = make_policy(cameras=2, depths=1, n_obs_steps=2).average.vision.eval()
    stream = frames_of(vision, 4, batch=2)
    calls = counted(vision, monkeypatch)
    for start, encoded in ((0, [1, 1]), (1, [1]), (1, []), (2, [1])):
        window = [camera[:, start : start + 2] for camera in stream]
        calls.clear()
        seen = vision(window)
        assert calls == encoded
        vision.forget()
        with torch.enable_grad():  # nothing is remembered where gradients flow
            plain = vision(window)
        vision(window)
        for ours, theirs in zip(seen, plain, strict=True):
            torch.testing.assert_close(ours, theirs.detach(), **CLOSE)


@torch.no_grad()
def test_encoded_frames_are_forgotten_when_weights_or_pixels_change(make_policy, monkeypatch):
    vision = make_policy(cameras=1, n_obs_steps=2).average.vision.eval()
    window = frames_of(vision, 2)
    calls = counted(vision, monkeypatch)
    first = vision(window).tokens
    vision.load_state_dict({name: value * 1.1 for name, value in vision.state_dict().items()})
    second = vision(window).tokens
    assert calls == [1, 1] * 2
    vision.train()
    for parameter in vision.parameters():
        parameter.data.mul_(1.1)
    third = vision.eval()(window).tokens
    assert calls == [1, 1] * 3
    window[0][:, 1] += 1.0  # the caller fills the same memory with other pixels
    vision(window)
    assert calls == [1, 1] * 3 + [1]
    assert len({float(tokens.sum()) for tokens in (first, second, third)}) == 3


def test_the_frame_before_a_plan_is_encoded_before_it(make_policy, make_observation, monkeypatch):
    policy = make_policy(cameras=1, n_obs_steps=2, n_action_steps=3).eval()
    plain = make_policy(cameras=1, n_obs_steps=2, n_action_steps=3).eval()
    monkeypatch.setattr(plain._network.vision, "_remembers", lambda images: False)
    calls = counted(policy._network.vision, monkeypatch)
    encoded = []
    for seed in range(7):
        observation = make_observation(policy.config, seed=seed)
        noise = torch.randn(1, policy.config.horizon, 4)
        calls.clear()
        action = policy.select_action(observation, noise=noise)
        encoded.append(len(calls))
        torch.testing.assert_close(action, plain.select_action(observation, noise=noise), **CLOSE)
    assert encoded == [1, 0, 1, 1, 0, 1, 1]  # a plan at 0, 3, 6: only its newest frame is new to it


def test_a_copied_or_sent_network_has_seen_nothing(make_policy):
    import pickle
    from copy import deepcopy

    vision = make_policy(cameras=1, n_obs_steps=2).average.vision.eval()
    with torch.no_grad():
        vision(frames_of(vision, 2))
    assert len(vision._seen._frames) == 2
    assert not deepcopy(vision)._seen._frames
    assert not pickle.loads(pickle.dumps(vision._seen))._frames


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fields"), [("mlp", {"denoiser_depth": 1}), ("unet", {"unet_dims": (8, 16)})]
)
@torch.no_grad()
def test_the_denoising_loop_compiles_to_one_graph(make_denoiser, kind, fields):
    denoiser, config = make_denoiser(kind, **fields)
    scheduler = make_scheduler(100, "squaredcos_cap_v2", "sample")
    chain = make_chain(scheduler, 2, 0.4)
    noise, draft = torch.randn(1, 16, 4), torch.randn(1, 16, 4)
    condition = torch.randn(1, 2 * config.condition_dim)

    def sample(noise, draft, condition):
        conditioned = Conditioned(denoiser, condition)
        words = {"steps": 2, "draft": draft, "draft_noise": 0.4, "chain": chain}
        return ddim_sample(scheduler, conditioned, noise, **words)

    compiled = torch.compile(sample, backend="eager", fullgraph=True)  # a break would raise
    expected = sample(noise, draft, condition)
    torch.testing.assert_close(compiled(noise, draft, condition), expected, **CLOSE)
