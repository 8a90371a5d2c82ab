# SPDX-License-Identifier: Apache-2.0
"""What each part of LAPO learns from, and what it must not learn from."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot_policy_lapo import LAPOConfig, LAPOPolicy
from torch import nn

from lerobot_ext.nn.pooled_cameras import PooledCameras, random_shift
from lerobot_ext.offline_rl.labels import episodes_from_columns

HORIZON = 3
# Episode 0 succeeds, episode 1 is cut off; eight frames each.
EPISODES = {
    "index": np.arange(16),
    "episode_index": np.repeat([0, 1], 8),
    "next.reward": np.eye(16)[7],
    "next.success": np.arange(16) == 7,
    "next.done": (np.arange(16) % 8) == 7,
}


def make_policy(cameras: int = 0, **fields) -> LAPOPolicy:
    torch.manual_seed(0)
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (4,))}
    for number in range(cameras):
        inputs[f"observation.images.cam{number}"] = PolicyFeature(
            FeatureType.VISUAL, (3, 40, 32 + 8 * number)
        )
    config = LAPOConfig(
        device="cpu",
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
        **{
            "chunk_size": HORIZON,
            "n_action_steps": 1,
            "hidden_dim": 16,
            "obs_feature_dim": 16,
            "image_feature_dim": 16,
            "image_size": (32, 32),
            **fields,
        },
    )
    policy = LAPOPolicy(config)
    policy.set_episodes(episodes_from_columns(EPISODES))
    return policy.train()


def make_batch(policy: LAPOPolicy, index: list[int]) -> dict:
    generator = torch.Generator().manual_seed(1)
    times = policy.config.observation_delta_indices
    frames = torch.tensor(index)
    left = 8 - frames % 8  # frames to the end of the episode
    batch = {
        name: torch.randn(len(index), len(times), *feature.shape, generator=generator)
        for name, feature in policy.config.input_features.items()
    }
    past = torch.tensor(times)[None] >= left[:, None]
    return batch | {
        "observation.state_is_pad": past,
        "action": torch.rand(len(index), HORIZON, 2, generator=generator) * 2 - 1,
        "action_is_pad": torch.arange(HORIZON)[None] >= left[:, None],
        "next.reward": torch.rand(len(index), HORIZON, generator=generator) * 0.2,
        "index": frames,
        "episode_index": frames // 8,
    }


def gradients(policy: LAPOPolicy, batch: dict) -> dict[str, torch.Tensor]:
    policy.zero_grad()
    policy._randomness.advance()
    policy.forward(batch)[0].backward()
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def test_rewards_after_a_cut_teach_nothing_and_those_of_a_success_do():
    policy = make_policy()
    batch = make_batch(policy, [14, 6, 3])
    before = gradients(policy, batch)
    batch["next.reward"][0] += 0.2  # two frames before the cut: what would follow is unknown
    same = gradients(policy, batch)
    assert all(before[name].equal(same[name]) for name in before)
    batch["next.reward"][1, 0] += 0.2  # two frames before the success
    other = gradients(policy, batch)
    assert not before["network.critic.layers.0.weight"].equal(other["network.critic.layers.0.weight"])


def test_the_actor_teaches_neither_critic_nor_decoder_nor_encoder():
    policy = make_policy()
    batch = make_batch(policy, [0, 1, 2])
    sample = policy._sample(batch)
    policy._objective._actor(sample)[0].mean().backward()
    touched = {name.split(".")[1] for name, p in policy.named_parameters() if p.grad is not None}
    assert touched == {"actor"}


@pytest.mark.parametrize(
    ("trained_by", "learns"), [("both", True), ("critic", True), ("policy", True), ("none", False)]
)
def test_the_encoder_learns_from_the_losses_that_are_named(trained_by, learns):
    policy = make_policy(encoder_trained_by=trained_by)
    batch = make_batch(policy, [0, 1, 2])
    found = gradients(policy, batch)
    assert any(name.startswith("network.encoder") for name in found) is learns
    if trained_by == "critic":  # then the actions say nothing to it but through the critic
        policy.zero_grad()
        sample = policy._sample(batch)
        error = policy.network.decode(policy._objective._for_policy(sample.features), torch.zeros(3, 4))
        error.square().mean().backward()
        assert all(p.grad is None for p in policy.network.encoder.parameters())


def test_filtered_cloning_learns_from_the_best_episodes_alone():
    policy = make_policy(extraction="filtered_bc", filter_share=0.5)
    batch = make_batch(policy, [0, 9])
    before = gradients(policy, batch)
    batch["action"][1] = -batch["action"][1]
    after = gradients(policy, batch)
    assert all(before[name].equal(after[name]) for name in before)
    batch["action"][0] = -batch["action"][0]
    assert any(not before[name].equal(other) for name, other in gradients(policy, batch).items())


def test_filtered_cloning_without_returns_says_what_is_missing():
    policy = make_policy(extraction="filtered_bc")
    policy.set_episodes(None)
    with pytest.raises(ValueError, match="filtered_bc needs the returns"):
        policy.forward(make_batch(policy, [0]))


def test_ends_that_cannot_be_read_are_said_to_count_as_terminal_once(caplog):
    policy = make_policy()
    policy.set_episodes(None)
    batch = make_batch(policy, [0, 1])
    with caplog.at_level(logging.WARNING):
        policy.forward(batch)
        policy.forward(batch)
    assert sum("counts as terminal" in record.message for record in caplog.records) == 1


def test_a_dataset_without_rewards_is_refused_with_what_to_do():
    policy = make_policy()
    batch = make_batch(policy, [0, 1])
    batch["next.reward"] = 0.0  # what LeRobot puts there
    with pytest.raises(ValueError, match=r"next\.reward.*sparse_success"):
        policy.forward(batch)


def test_success_alone_can_be_the_reward():
    policy = make_policy(reward_source="sparse_success")
    batch = make_batch(policy, [5, 6, 0, 13])
    batch["next.reward"] = 0.0
    targets = policy.labels.targets(batch)
    assert targets.returns.tolist() == pytest.approx([0.99**2, 0.99, 0.0, 0.0])
    assert targets.usable.tolist() == [True, True, True, False]


def test_values_are_bounded_by_the_dataset_and_the_bounds_are_saved():
    policy = make_policy(reward_source="step_cost")
    assert float(policy.labels.high) == 0.0
    assert float(policy.labels.low) == pytest.approx(-100.0)  # a cut-off episode may cost for ever
    assert {"labels.low", "labels.high"} <= set(policy.state_dict())
    assert float(policy.labels.scale) == pytest.approx(100.0)
    assert policy.labels.clamp(torch.tensor([-3.0, -0.5, 1.0])).tolist() == [-1.0, -0.5, 0.0]


@pytest.mark.parametrize("extraction", ["lapo", "iql", "bc"])
def test_in_bfloat16_the_gradients_point_the_same_way(extraction):
    found = []
    for amp in (False, True):
        policy = make_policy(cameras=1, extraction=extraction)
        batch = make_batch(policy, [0, 1, 2, 5, 6, 3])
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            loss, log = policy.forward(batch)
        loss.backward()
        assert loss.dtype == torch.float32
        assert all(np.isfinite(value) for value in log.values())
        found.append({name: p.grad for name, p in policy.named_parameters() if p.grad is not None})
    full, half = found
    assert set(full) == set(half)
    for part in {name.split(".")[1] for name in full}:
        one, other = (torch.cat([g.flatten() for n, g in f.items() if f".{part}." in n]) for f in found)
        assert nn.functional.cosine_similarity(one, other, dim=0) > 0.98, part


def test_all_cameras_pass_the_network_at_once(monkeypatch):
    policy = make_policy(cameras=3)
    calls = []
    monkeypatch.setattr(
        policy.target.encoder.cameras.backbone,
        "forward",
        lambda x, stock=policy.target.encoder.cameras.backbone.forward: (calls.append(len(x)), stock(x))[1],
    )
    observation = {
        name: torch.rand(2, *feature.shape) for name, feature in policy.config.input_features.items()
    }
    assert policy.eval().select_action(observation).shape == (2, 2)
    assert calls == [6]


def test_features_do_not_depend_on_the_rest_of_the_batch():
    policy = make_policy(cameras=2, vision_backbone="resnet18").eval()
    observation = {
        name: torch.rand(3, *feature.shape) for name, feature in policy.config.input_features.items()
    }
    together = policy.predict_action_chunk(observation)
    alone = policy.predict_action_chunk({name: value[:1] for name, value in observation.items()})
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_frozen_batch_norms_keep_the_statistics_they_came_with(tmp_path):
    from torchvision.models import resnet18

    network = resnet18(weights=None)
    with torch.no_grad():
        network.bn1.running_mean += 3
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    cameras = PooledCameras(
        1, 16, (32, 32), "resnet18_frozen_bn", weights=str(tmp_path / "resnet18.pth"), shift=2
    ).train()
    before = {name: value.clone() for name, value in cameras.named_buffers()}
    cameras([torch.rand(2, 3, 32, 32)], augment=True).sum().backward()
    assert before["backbone.1.running_mean"].mean() == 3
    assert all(value.equal(before[name]) for name, value in cameras.named_buffers())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in cameras.modules())


def test_a_shifted_frame_is_the_frame_moved_with_its_border_repeated():
    torch.manual_seed(0)
    frames = torch.arange(5 * 6.0).view(1, 1, 5, 6).repeat(40, 2, 1, 1)
    shifted = random_shift(frames, 2)
    padded = nn.functional.pad(frames, (2, 2, 2, 2), mode="replicate")
    crops = [padded[0, :, y : y + 5, x : x + 6] for y in range(5) for x in range(5)]
    places = [[n for n, crop in enumerate(crops) if crop.equal(frame)] for frame in shifted]
    assert all(len(found) == 1 for found in places)
    assert len({found[0] for found in places}) > 10
    assert random_shift(frames, 0).equal(frames)
