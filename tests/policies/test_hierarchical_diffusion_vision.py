# SPDX-License-Identifier: Apache-2.0
"""Colour and depth cameras, any number of each."""

from __future__ import annotations

import pytest
import torch
from lerobot_policy_hierarchical_diffusion.modeling_hierarchical_diffusion import HierarchicalDiffusionPolicy

from lerobot_ext.nn.depth import with_masks


def depth_stats(config, mean: float = 2.0, std: float = 0.5):
    return {
        key: {"mean": torch.full((1, 1, 1), mean), "std": torch.full((1, 1, 1), std)}
        for key in config.image_features
        if "depth" in key
    }


@pytest.mark.parametrize(("cameras", "depths"), [(0, 1), (1, 0), (1, 2), (3, 3)])
@pytest.mark.parametrize("backbone", ["small", "resnet18"])
def test_any_cameras_train_and_plan(
    make_config, make_policy, make_batch, make_observation, cameras, depths, backbone
):
    if backbone == "resnet18" and cameras + depths > 2:
        pytest.skip("the small network shows it in less time")
    policy = make_policy(cameras=cameras, depths=depths, n_obs_steps=2, vision_backbone=backbone).train()
    loss, _ = policy(make_batch(policy.config, 2))
    loss.backward()
    missing = [name for name, p in policy.network.vision.named_parameters() if p.grad is None]
    assert not missing
    policy.eval()
    assert policy.select_action(make_observation(policy.config, 2)).shape == (2, 4)


def test_what_was_not_measured_does_not_matter(make_policy, make_batch):
    """A blind pixel is told by its normalised value and replaced by 0, beside a mask that says so."""
    config = make_policy(cameras=0, depths=1).config
    policy = make_policy(stats=depth_stats(config), cameras=0, depths=1).eval()
    vision = policy.network.vision
    assert vision.nothing.tolist() == [pytest.approx((0.0105 - 2.0) / 0.5)]  # LeRobot says 1 cm
    depth = torch.zeros(1, 1, 1, 4, 4)
    depth[..., 0, 0] = (0 - 2.0) / 0.5
    depth[..., 1, 1] = 0.75
    (masked,) = with_masks([depth], vision.nothing)
    assert masked.shape == (1, 1, 2, 4, 4)
    assert masked[0, 0, 1].sum() == 15
    assert masked[0, 0, :, 0, 0].tolist() == [0, 0]
    assert masked[0, 0, :, 1, 1].tolist() == [0.75, 1]


def test_without_statistics_every_pixel_counts(make_policy):
    vision = make_policy(cameras=0, depths=1).network.vision
    (masked,) = with_masks([torch.zeros(1, 1, 1, 2, 2)], vision.nothing)
    assert masked[0, 0, 1].sum() == 4


def test_what_blind_looks_like_is_saved(make_policy, tmp_path):
    config = make_policy(cameras=1, depths=2).config
    policy = make_policy(stats=depth_stats(config), cameras=1, depths=2)
    policy.save_pretrained(tmp_path)
    loaded = HierarchicalDiffusionPolicy.from_pretrained(tmp_path)
    assert torch.equal(loaded.average.vision.nothing, policy.average.vision.nothing)
    assert not loaded.average.vision.nothing.isnan().any()


def test_checkpointing_changes_neither_loss_nor_gradients(make_policy, make_batch):
    plain = make_policy(cameras=2).train()
    thrifty = make_policy(cameras=2, gradient_checkpointing=True).train()
    batch = make_batch(plain.config, 2)
    losses = []
    for policy in (plain, thrifty):
        torch.manual_seed(0)
        loss, _ = policy(batch)
        loss.backward()
        losses.append(loss)
    assert torch.equal(*losses)
    for (name, one), other in zip(
        plain.network.named_parameters(), thrifty.network.parameters(), strict=True
    ):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_a_camera_of_two_channels_is_refused(make_config, make_policy):
    from lerobot.configs import FeatureType, PolicyFeature

    config = make_config(cameras=1)
    config.input_features["observation.images.cam0"] = PolicyFeature(FeatureType.VISUAL, (2, 8, 8))
    with pytest.raises(ValueError, match=r"reads colour images \(3, h, w\) and depth maps \(1, h, w\)"):
        HierarchicalDiffusionPolicy(config)
