# SPDX-License-Identifier: Apache-2.0
"""Augmentation: which samples change how, and parity with torchvision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.processor import TransitionKey
from lerobot.processor.converters import create_transition
from lerobot_robot_processors import warps
from lerobot_robot_processors.steps.augment import AugmentStep
from torchvision.transforms.v2 import functional as stock

TOP, SIDE = "observation.images.top", "observation.images.side"
ALL = {
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.2,
    "shift_px": 3,
    "crop": 0.8,
    "rotate_deg": 10.0,
    "shear_deg": 5.0,
    "blur_sigma_px": 1.5,
    "noise": 0.05,
    "erase": 1.0,
}


def augmented(step, seed=0, action=True, **pictures):
    torch.manual_seed(seed)
    observation = {f"observation.images.{name}": value for name, value in pictures.items()}
    given_transition = create_transition(observation=observation, action=torch.zeros(1) if action else None)
    after = step(given_transition)
    return {name: after[TransitionKey.OBSERVATION][f"observation.images.{name}"] for name in pictures}


def random_pictures(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("ours", "theirs", "value"),
    [
        (warps.adjust_brightness, stock.adjust_brightness, 1.4),
        (warps.adjust_brightness, stock.adjust_brightness, 0.3),
        (warps.adjust_contrast, stock.adjust_contrast, 1.7),
        (warps.adjust_contrast, stock.adjust_contrast, 0.0),
        (warps.adjust_saturation, stock.adjust_saturation, 1.6),
        (warps.adjust_saturation, stock.adjust_saturation, 0.2),
        (warps.adjust_hue, stock.adjust_hue, 0.13),
        (warps.adjust_hue, stock.adjust_hue, -0.5),
    ],
)
def test_colours_are_those_of_torchvision(ours, theirs, value):
    pictures = random_pictures(3, 2, 3, 9, 11)
    found = ours(pictures, torch.full((3,), value))
    torch.testing.assert_close(found, theirs(pictures, value), rtol=0, atol=2e-6)


def test_a_blur_is_that_of_torchvision():
    pictures = random_pictures(2, 1, 3, 20, 24)
    found = warps.blur(pictures, torch.tensor([0.7, 1.9]), 9)
    for row, sigma in enumerate((0.7, 1.9)):
        theirs = stock.gaussian_blur(pictures[row], [9, 9], [sigma, sigma])
        torch.testing.assert_close(found[row], theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("right", "down"), [(0, 0), (3, -2), (-1, 4)])
def test_a_whole_shift_moves_pixels_and_repeats_the_edge(right, down):
    pictures = random_pictures(1, 1, 3, 8, 10)
    zero, one = torch.zeros(1), torch.ones(1)
    matrix = warps.affine_matrix(zero, one, zero, torch.tensor([[float(right), float(down)]]), 8, 10)
    found = warps.warp(pictures, matrix)
    rows = (torch.arange(8) - down).clamp(0, 7)
    columns = (torch.arange(10) - right).clamp(0, 9)
    torch.testing.assert_close(found, pictures[..., rows, :][..., columns], rtol=0, atol=1e-5)


def test_a_quarter_turn_of_a_square_is_exact():
    pictures = random_pictures(1, 1, 3, 9, 9)
    zero, one = torch.zeros(1), torch.ones(1)
    matrix = warps.affine_matrix(torch.tensor([math.pi / 2]), one, zero, torch.zeros(1, 2), 9, 9)
    torch.testing.assert_close(
        warps.warp(pictures, matrix), torch.rot90(pictures, -1, (-2, -1)), rtol=0, atol=1e-5
    )


@given(st.sampled_from(sorted(ALL)), st.sampled_from([(3, 3, 12, 16), (3, 2, 3, 12, 16)]), st.integers(0, 50))
@settings(deadline=None)
def test_each_operation_keeps_shape_and_range_and_differs_by_sample(name, shape, seed):
    pictures = random_pictures(*shape).clone()
    pictures[:] = pictures[:1]
    out = augmented(AugmentStep(**{name: ALL[name]}), seed, top=pictures)["top"]
    assert out.shape == pictures.shape
    assert 0 <= float(out.min()) <= float(out.max()) <= 1 + 1e-6
    assert not torch.equal(out[0], out[1]) or not torch.equal(out[1], out[2])


def test_all_times_of_a_sample_change_alike_and_samples_do_not():
    fields = {name: value for name, value in ALL.items() if name != "noise"}
    one = random_pictures(1, 1, 3, 12, 16)
    out = augmented(AugmentStep(**fields), top=one.expand(2, 4, 3, 12, 16))["top"]
    for time in range(1, 4):
        torch.testing.assert_close(out[:, time], out[:, 0], rtol=0, atol=1e-6)
    assert not torch.allclose(out[0], out[1], atol=1e-2)


def test_cameras_differ_unless_they_shall_not():
    pictures = random_pictures(2, 3, 12, 16)
    fields = {name: value for name, value in ALL.items() if name != "noise"}
    apart = augmented(AugmentStep(**fields), top=pictures, side=pictures)
    assert not torch.allclose(apart["top"], apart["side"], atol=1e-2)
    same = augmented(AugmentStep(**fields, same_for_cameras=True), top=pictures, side=pictures)
    torch.testing.assert_close(same["top"], same["side"], rtol=0, atol=0)


def test_a_depth_map_moves_with_its_camera_and_keeps_its_values():
    colours = random_pictures(2, 1, 12, 16).expand(2, 3, 12, 16)
    depth = 4000 * random_pictures(2, 1, 12, 16)
    out = augmented(AugmentStep(shift_px=4, brightness=0.5, noise=0.1), top=colours, top_depth=depth)
    assert set(out["top_depth"].flatten().tolist()) <= set(depth.flatten().tolist())
    moved = augmented(AugmentStep(shift_px=4), top=colours, top_depth=depth)
    torch.testing.assert_close(moved["top_depth"], 4000 * moved["top"][:, :1], rtol=0, atol=0.1)


def test_the_seed_of_torch_decides():
    pictures = random_pictures(2, 3, 12, 16)
    first, again, other = (augmented(AugmentStep(**ALL), seed, top=pictures)["top"] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_one_more_operation_leaves_the_draws_of_the_others():
    pictures = random_pictures(4, 3, 12, 16)
    plain = augmented(AugmentStep(shift_px=4), top=pictures)["top"]
    both = augmented(AugmentStep(shift_px=4, erase=1.0), top=pictures)["top"]
    kept = both != 0
    assert torch.equal(both[kept], plain[kept])
    assert 0.3 < float(kept.float().mean()) < 1


def test_a_share_of_samples_stays_as_it_is():
    pictures = random_pictures(400, 3, 4, 4)
    out = augmented(AugmentStep(brightness=0.5, probability=0.25), top=pictures)["top"]
    changed = int((out != pictures).flatten(1).any(1).sum())
    assert 60 < changed < 140


def test_only_gradients_and_an_action_together_mean_training():
    pictures, step = random_pictures(1, 3, 12, 16), AugmentStep(brightness=0.5)
    assert not torch.equal(augmented(step, top=pictures)["top"], pictures)
    assert augmented(step, action=False, top=pictures)["top"] is pictures
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            assert augmented(step, top=pictures)["top"] is pictures
    assert augmented(AugmentStep(brightness=0.5, when="never"), top=pictures)["top"] is pictures
    always = AugmentStep(brightness=0.5, when="always")
    with torch.no_grad():
        assert not torch.equal(augmented(always, action=False, top=pictures)["top"], pictures)


def test_pictures_that_are_normalised_or_bytes_are_refused():
    with pytest.raises(ValueError, match=r"reaches from .* put it before `normalizer_processor`"):
        augmented(AugmentStep(brightness=0.5), top=random_pictures(1, 3, 4, 4) * 4 - 2)
    with pytest.raises(ValueError, match=r"uint8: augmentation takes floating-point tensors in \[0, 1\]"):
        augmented(AugmentStep(brightness=0.5), top=torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize(
    "fields", [{"hue": 0.6}, {"crop": 0}, {"shift_px": 1.5}, {"when": "train"}, {"probability": 2}]
)
def test_a_bad_field_is_named(fields):
    with pytest.raises(ValueError, match=rf"`{next(iter(fields))}` \("):
        AugmentStep(**fields)
