# SPDX-License-Identifier: Apache-2.0
"""Targets, masks, statistics, sampling and window against slow hand-written versions."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from lerobot_policy_hierarchical_diffusion import targets as T
from lerobot_policy_hierarchical_diffusion.conditioning import LayerFusion, sample_layer_mask
from lerobot_policy_hierarchical_diffusion.layers.base import LayerOutput
from lerobot_policy_hierarchical_diffusion.sampling import ddim_sample, make_scheduler, refinement_timesteps
from lerobot_policy_hierarchical_diffusion.statistics import NormalizedLimits, StreamingQuantile
from lerobot_policy_hierarchical_diffusion.window import TimeWindow

from lerobot_ext.nn.embeddings import HashedTextEmbedding, hash_text


def test_window_positions_point_at_their_offsets(make_config):
    config = make_config(
        n_obs_steps=2,
        history_steps=3,
        dynamics_history=4,
        planning_history=3,
        planning_stride=5,
        future_steps=2,
        subgoal_steps=9,
    )
    window = TimeWindow.from_config(config)
    assert window.offsets == (-10, -5, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert [window.offsets[i] for i in window.observation] == [-1, 0]
    assert [window.offsets[i] for i in window.history] == [-2, -1, 0]
    assert [window.offsets[i] for i in window.motion] == [-3, -2, -1, 0]
    assert [window.offsets[i] for i in window.memory] == [-10, -5, 0]
    assert [window.offsets[i] for i in window.future] == [1, 2]
    assert [window.offsets[i] for i in window.ahead] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert window.past == (-10, -5, -3, -2, -1, 0)
    assert window.queue_length == 11
    assert config.camera_delta_indices == [-1, 0]


def test_masked_mean_ignores_what_is_padded():
    values = torch.tensor([[[1.0, 3.0], [100.0, 100.0]], [[5.0, 5.0], [7.0, 9.0]], [[9.0, 9.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    assert T.masked_mean(values, mask).tolist() == [2.0, 6.5, 0.0]


def test_violation_labels_match_a_loop():
    generator = torch.Generator().manual_seed(3)
    batch, steps, width = 40, 4, 3
    state = torch.randn(batch, width, generator=generator, dtype=torch.float64) * 0.5
    future = state[:, None] + torch.randn(batch, steps, width, generator=generator, dtype=torch.float64) * 0.3
    actions = torch.randn(batch, 2, width, generator=generator, dtype=torch.float64) * 0.5
    valid = torch.rand(batch, steps, generator=generator) < 0.7
    low, high = torch.tensor([-1.2, -1.0, -0.9]).double(), torch.tensor([1.0, 1.1, 1.2]).double()
    fastest, latest = torch.tensor([0.9, 0.8, 0.7]).double(), torch.tensor([1.5, 1.4, 1.3]).double()
    scale, offset = torch.tensor([2.0, 1.0, 0.5]).double(), torch.tensor([0.1, 0.0, -0.1]).double()

    velocity = T.future_velocities(state, future)
    tracking = T.tracking_errors(actions, future, scale, offset)
    labels = T.violation_labels(
        future,
        velocity,
        valid,
        low=low,
        high=high,
        velocity_limit=fastest,
        tracking=tracking,
        tracking_limit=latest,
    )

    expected = []
    for b in range(batch):
        unsafe = False
        for k in range(steps):
            if not valid[b, k]:
                continue
            for j in range(width):
                before = state[b, j] if k == 0 else future[b, k - 1, j]
                unsafe |= bool(future[b, k, j] < low[j] or future[b, k, j] > high[j])
                unsafe |= bool(abs(future[b, k, j] - before) > fastest[j])
                if k < actions.shape[1]:
                    wanted = actions[b, k, j] * scale[j] + offset[j]
                    unsafe |= bool(abs(wanted - future[b, k, j]) > latest[j])
        expected.append(float(unsafe))
    assert labels.tolist() == expected
    assert 0 < sum(expected) < batch


@pytest.mark.parametrize("known", [0.0, 1.0])
@pytest.mark.parametrize("positions", [True, False])
def test_injected_violations_are_violations_and_touch_one_joint(known, positions):
    history = torch.rand(300, 4, 3, dtype=torch.float64) - 0.5
    low, high = torch.full((3,), -0.8).double(), torch.full((3,), 0.8).double()
    fastest = torch.full((3,), 1.1).double()
    latest = torch.full((3,), 2.0).double() if positions else None
    command = known * torch.cat([torch.rand(300, 3) - 0.5, torch.ones(300, 1)], dim=1).double()
    corrupted, commanded = T.injected_violations(history, low, high, fastest, command, latest)
    touched = (corrupted != history).any(1) | (commanded != command)[:, :3]
    assert (touched.sum(1) == 1).all()
    assert torch.equal(commanded[:, 3], command[:, 3])
    astray = (commanded != command).any(1)
    assert astray.any() == bool(known and positions)
    assert ((commanded - command)[astray].abs().amax(1) >= 1.5 * 2.0).all()
    history, corrupted = history[~astray], corrupted[~astray]
    outside = ((corrupted[:, -1] < low) | (corrupted[:, -1] > high)).any(1)
    # A jump adds at least 1.5 limits to the newest velocity of its joint.
    jump = ((corrupted - history)[:, -1].abs() >= 1.5 * fastest).any(1) & (
        (corrupted - history)[:, :-1] == 0
    ).all((1, 2))
    assert (outside | jump).all()
    assert outside.any()
    assert jump.any()


@pytest.mark.parametrize(
    ("speeds", "keyframe"),
    [
        ([2, 2, 0.1, 2], 2),  # moving, and arrives
        ([0.1, 2, 2, 0.1], 3),  # rests, moves, arrives
        ([2, 0.1, 2, 0.1], 1),  # the first of two arrivals
        ([0.1, 0.1, 0.1, 0.1], 3),  # rests all the time
        ([2, 2, 2, 2], 3),  # moves on
        ([0.1, 0.1, 2, 2], 3),  # has just set out
    ],
)
def test_the_next_keyframe_is_where_the_motion_comes_to_rest(speeds, keyframe):
    velocity = torch.zeros(1, 4, 3)
    velocity[0, :, 1] = torch.tensor(speeds)
    assert T.next_keyframe(velocity, torch.tensor(1.0)).tolist() == [keyframe]


@pytest.mark.parametrize(
    ("past", "ahead", "phase"),
    [
        (0.1, 0.2, T.Phase.DWELL),
        (0.1, 2.0, T.Phase.DEPART),
        (2.0, 0.1, T.Phase.ARRIVE),
        (2.0, 2.0, T.Phase.TRANSIT),
    ],
)
def test_motion_phase(past, ahead, phase):
    assert T.motion_phase(torch.tensor([past]), torch.tensor([ahead]), torch.tensor(1.0)).item() == phase


def test_episode_progress_runs_from_zero_to_one():
    starts, ends = torch.tensor([0, 40]), torch.tensor([40, 101])
    progress = T.episode_progress(
        torch.tensor([0, 39, 40, 70, 100]), torch.tensor([0, 0, 1, 1, 1]), starts, ends
    )
    assert progress.tolist() == [0.0, 1.0, 0.0, 0.5, 1.0]


def test_streaming_quantile_follows_numpy_and_skips_padding():
    generator = np.random.default_rng(0)
    quantile = StreamingQuantile(2, 0.95)
    assert quantile.value().isinf().all()
    seen = []
    for _ in range(20):
        values = np.abs(generator.normal(size=(30, 4, 2))) * [1.0, 0.01]
        mask = generator.random((30, 4)) < 0.8
        quantile.observe(
            torch.from_numpy(np.where(mask[..., None], values, 50.0)).float(), torch.from_numpy(mask)
        )
        seen.append(values[mask])
    exact = np.quantile(np.concatenate(seen), 0.95, axis=0)
    np.testing.assert_allclose(quantile.value().numpy(), exact, rtol=0.08)


def test_limits_come_from_the_normaliser_and_constant_features_are_marked(make_config):
    config = make_config(state=2, action=2, env=2, limit_margin=0.1)
    stats = {
        "observation.state": {"min": [0.0, -10.0], "max": [10.0, 30.0]},
        "observation.environment_state": {"min": [0.2, 0.0], "max": [0.2, 0.5]},
        "action": {"min": [5.0, -20.0], "max": [15.0, 20.0]},
    }
    stats = {k: {n: torch.tensor(v) for n, v in s.items()} for k, s in stats.items()}
    limits = NormalizedLimits(config)
    assert limits.action_low.isinf().all()
    limits.set_from(stats)
    torch.testing.assert_close(limits.action_high, torch.tensor([1.2, 1.2]))  # MIN_MAX: [-1, 1] and 10 % of 2
    torch.testing.assert_close(limits.state_low, torch.tensor([-1.2, -1.2]))
    assert limits.env_varies.tolist() == [0.0, 1.0]
    assert limits.state_varies.tolist() == [1.0, 1.0]
    # Action 0 of joint 0 means 10, which is +1 among states 0..10.
    torch.testing.assert_close(limits.target_offset, torch.tensor([1.0, -0.5]))
    torch.testing.assert_close(limits.target_scale, torch.tensor([1.0, 1.0]))


def test_masks_keep_a_prefix_or_miss_one_layer_with_the_right_frequency():
    mask = sample_layer_mask(40000, 4, 0.4, torch.device("cpu"))
    counted = {tuple(row): n / 40000 for row, n in Counter(map(tuple, mask.int().tolist())).items()}
    prefixes = [(0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0)]
    misses = [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1)]
    expected = dict.fromkeys(prefixes + misses, 0.05) | {(1, 1, 1, 1): 0.6, (1, 1, 1, 0): 0.1}
    assert counted.keys() == expected.keys()
    for row, share in expected.items():
        assert abs(counted[row] - share) < 0.01, row


def test_a_layer_that_always_runs_is_in_every_prefix_and_seldom_missed():
    mask = sample_layer_mask(40000, 4, 0.4, torch.device("cpu"), first_always=True)
    counted = {tuple(row): n / 40000 for row, n in Counter(map(tuple, mask.int().tolist())).items()}
    expected = {
        (0, 1, 1, 1): 0.0125,  # a quarter of the others' share
        (1, 0, 0, 0): 0.10,  # the empty prefix became this one
        (1, 1, 0, 0): 0.05,
        (1, 0, 1, 1): 0.05,
        (1, 1, 0, 1): 0.05,
        (1, 1, 1, 0): 0.10,
        (1, 1, 1, 1): 0.6375,
    }
    assert counted.keys() == expected.keys()
    for row, share in expected.items():
        assert abs(counted[row] - share) < 0.01, row


def test_without_dropout_every_layer_is_kept_and_without_layers_there_is_nothing_to_keep():
    assert (sample_layer_mask(50, 4, 0.0, torch.device("cpu")) == 1).all()
    assert sample_layer_mask(50, 0, 0.5, torch.device("cpu")).shape == (50, 0)


def test_fusion_is_the_sum_of_features_and_nulls():
    torch.manual_seed(0)
    fusion = LayerFusion({"a": 3, "b": 5}, 4).double()
    features = {"a": torch.randn(2, 3).double(), "b": torch.randn(2, 5).double()}
    outputs = {name: LayerOutput(one, None, {}) for name, one in features.items()}
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).double()
    fused = fusion(outputs, mask)
    h = {n: fusion.projections[n](fusion.norms[n](features[n])) for n in "ab"}
    torch.testing.assert_close(fused[0], h["a"][0] + fusion.nulls[1])
    torch.testing.assert_close(fused[1], h["a"][1] + h["b"][1])
    absent = fusion({"a": outputs["a"]}, torch.tensor([[1.0, 0.0]] * 2).double())
    torch.testing.assert_close(absent[0], fused[0])


def test_what_a_layer_gives_precisely_stands_beside_the_sum_or_its_null_does():
    torch.manual_seed(0)
    fusion = LayerFusion({"a": 3, "b": 5}, 4, {"a": 2}).double()
    torch.nn.init.normal_(fusion.unheard["a"])
    given = torch.randn(2, 2).double()
    outputs = {
        "a": LayerOutput(torch.randn(2, 3).double(), None, {}, given),
        "b": LayerOutput(torch.randn(2, 5).double(), None, {}),
    }
    heard = fusion(outputs, torch.tensor([[1.0, 1.0], [0.0, 1.0]]).double())
    assert heard.shape == (2, fusion.dim) == (2, 6)
    torch.testing.assert_close(heard[0, :2], given[0])
    torch.testing.assert_close(heard[1, :2], fusion.unheard["a"])
    absent = fusion({"b": outputs["b"]}, torch.tensor([[0.0, 1.0]] * 2).double())
    torch.testing.assert_close(absent[1], heard[1])


def _reference_ddim(alphas, predict, sample, timesteps, stride, prediction_type):
    """DDIM with eta 0, written out."""
    for t in timesteps:
        alpha = alphas[t]
        previous = alphas[t - stride] if t - stride >= 0 else 1.0
        predicted = predict(sample, t)
        if prediction_type == "epsilon":
            clean = (sample - math.sqrt(1 - alpha) * predicted) / math.sqrt(alpha)
            noise = predicted
        else:
            clean = predicted
            noise = (sample - math.sqrt(alpha) * clean) / math.sqrt(1 - alpha)
        clean = np.clip(clean, -1.5, 1.5)
        sample = math.sqrt(previous) * clean + math.sqrt(1 - previous) * noise
    return sample


@pytest.mark.parametrize("prediction_type", ["sample", "epsilon"])
@pytest.mark.parametrize(("steps", "start"), [(1, 1.0), (4, 1.0), (4, 0.4), (1, 0.3), (16, 0.5)])
def test_sampler_matches_written_out_ddim(prediction_type, steps, start):
    scheduler = make_scheduler(100, "squaredcos_cap_v2", prediction_type)
    generator = np.random.default_rng(1)
    draft = generator.uniform(-1, 1, (2, 5, 3))
    noise = generator.normal(size=(2, 5, 3))
    weights = generator.normal(size=(3, 3)) * 0.3

    def predict(x, t):
        return x @ weights * (1 + t / 100)

    chain = make_scheduler(100, "squaredcos_cap_v2", prediction_type)
    timesteps = refinement_timesteps(chain, steps, start).tolist()
    assert len(timesteps) == steps
    assert timesteps[-1] == 0
    assert timesteps[0] <= 100 * start
    alphas = np.cumprod(1 - scheduler.betas.double().numpy())
    begin = noise
    if start < 1:
        begin = math.sqrt(alphas[timesteps[0]]) * draft + math.sqrt(1 - alphas[timesteps[0]]) * noise
    stride = 100 // chain.num_inference_steps
    expected = _reference_ddim(alphas, predict, begin, timesteps, stride, prediction_type)

    actual = ddim_sample(
        scheduler,
        lambda x, t: torch.from_numpy(predict(x.numpy(), t[0].item())),
        torch.from_numpy(noise),
        steps=steps,
        draft=torch.from_numpy(draft),
        draft_noise=start,
    )
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_zero_steps_return_the_draft_or_say_why_not():
    scheduler = make_scheduler(100, "squaredcos_cap_v2", "sample")
    draft, noise = torch.randn(1, 2, 2), torch.randn(1, 2, 2)

    def never(x, t):
        raise AssertionError("the denoiser must not run")

    assert ddim_sample(scheduler, never, noise, steps=0, draft=draft) is draft
    with pytest.raises(ValueError, match="manipulation layer is switched off"):
        ddim_sample(scheduler, never, noise, steps=0)


def test_text_embedding_is_stable_and_knows_missing_texts():
    assert hash_text("Lift  the CUBE", 64) == hash_text("lift the cube", 64)
    assert hash_text("", 64) == (0,)
    assert min(hash_text("lift", 64)) >= 1
    assert hash_text("ab", 1024) == (810, 152, 1007)  # frozen: a checkpoint's table depends on it
    embedding = HashedTextEmbedding(8, 64)
    vectors = embedding(["lift", None, "", "place", "lift"], drop=[False, False, False, False, True])
    assert torch.equal(vectors[1], embedding.table.weight[0])
    assert torch.equal(vectors[1], vectors[2])
    assert torch.equal(vectors[1], vectors[4])
    assert not torch.equal(vectors[0], vectors[3])
