# SPDX-License-Identifier: Apache-2.0
"""Cropping and resizing: sizes, sides that agree, depth that is not invented."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.configs.types import FeatureType, PipelineFeatureType, PolicyFeature
from lerobot.processor import TransitionKey
from lerobot_robot_processors.steps.crop_resize import CropResizeStep
from PIL import Image

KEY = "observation.images.top"
SIZES = st.integers(1, 40)
TARGETS = st.integers(2, 40)


def resized(step, **observation):
    given = {name.replace("__", "."): value for name, value in observation.items()}
    return step({TransitionKey.OBSERVATION: given})[TransitionKey.OBSERVATION]


def picture(height, width, channels=3, dtype=np.uint8):
    drawn = np.random.default_rng(height * 100 + width)
    return drawn.integers(0, 256, (height, width, channels)).astype(dtype)


@given(SIZES, SIZES, TARGETS, TARGETS, st.sampled_from(["pad", "crop", "stretch"]), st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=200)
def test_any_picture_gets_the_size_that_the_features_promise(height, width, tall, wide, fit, channels):
    step = CropResizeStep(tall, wide, fit=fit)
    features = {PipelineFeatureType.OBSERVATION: {"top": (height, width, channels)}}
    promised = step.transform_features(features)[PipelineFeatureType.OBSERVATION]["top"]
    out = resized(step, top=picture(height, width, channels))["top"]
    assert out.shape == promised == (tall, wide, channels)
    assert out.dtype == np.uint8
    again = resized(step, top=out)["top"]
    assert again is out


@given(SIZES, SIZES, TARGETS, TARGETS, st.sampled_from(["pad", "crop", "stretch"]))
@settings(deadline=None, max_examples=100)
def test_robot_and_policy_get_the_same_picture(height, width, tall, wide, fit):
    step, array = CropResizeStep(tall, wide, fit=fit), picture(height, width)
    robot = resized(step, top=array)["top"]
    tensor = torch.from_numpy(array).movedim(-1, 0)
    for leading in ((), (2,), (2, 3)):
        batch = tensor.expand(*leading, *tensor.shape)
        policy = resized(step, **{KEY: batch})[KEY]
        assert policy.shape[:-3] == leading
        for sample in policy.reshape(-1, *policy.shape[-3:]):
            np.testing.assert_array_equal(sample.movedim(0, -1).numpy(), robot)
    floats = resized(step, **{KEY: tensor.float() / 255})[KEY]
    assert 0 <= float(floats.min()) <= float(floats.max()) <= 1 + 1e-6
    assert np.abs(floats.movedim(0, -1).numpy() * 255 - robot).max() <= 1.01


def test_antialiased_colours_are_those_of_pil():
    array = picture(480, 640)
    ours = resized(CropResizeStep(224, 224, fit="stretch"), top=array)["top"]
    theirs = np.asarray(Image.fromarray(array).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_padding_keeps_the_aspect_ratio_and_stands_in_the_middle():
    out = resized(CropResizeStep(40, 40, pad_value=1.0), top=np.zeros((20, 40, 3), np.uint8))["top"]
    assert (out[10:30] == 0).all()
    assert (out[:10] == 255).all()
    assert (out[30:] == 255).all()


def test_a_crop_box_counts_pixels_from_the_top_left():
    array = picture(10, 12)
    out = resized(CropResizeStep(crop_box=[2, 3, 4, 5], centre_crop=[2, 1]), top=array)["top"]
    np.testing.assert_array_equal(out, array[3:5, 5:6])


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_depth_takes_pixels_that_were_measured(dtype):
    array = picture(31, 45, 1, dtype) * 13
    out = resized(CropResizeStep(17, 60, fit="pad", pad_value=1.0), top_depth=array)["top_depth"]
    assert out.dtype == dtype
    assert set(out.flatten().tolist()) <= {0, *array.flatten().tolist()}


def test_a_camera_can_have_fields_of_its_own():
    step = CropResizeStep(8, 8, per_camera={"wrist*": {"height": 4}, "side": {"fit": "stretch"}})
    out = resized(step, top=picture(9, 9), wrist_left=picture(9, 9))
    assert (out["top"].shape, out["wrist_left"].shape) == ((8, 8, 3), (4, 8, 3))


def test_only_named_cameras_change_and_the_rest_passes():
    array = picture(9, 9)
    out = resized(CropResizeStep(4, 4, cameras=["t*"]), top=array, side=array, joint=1.5)
    assert out["top"].shape == (4, 4, 3)
    assert out["side"] is array
    assert out["joint"] == 1.5


def test_pictures_that_numpy_views_upside_down_or_reads_only():
    array = picture(20, 20)
    locked = array.copy()
    locked.flags.writeable = False
    for given_array in (array[::-1], array[:, ::-1], locked):
        out = resized(CropResizeStep(10, 10), top=given_array)["top"]
        np.testing.assert_array_equal(
            out, resized(CropResizeStep(10, 10), top=np.ascontiguousarray(given_array))["top"]
        )


def test_a_policys_features_are_channels_first():
    features = {PipelineFeatureType.OBSERVATION: {KEY: PolicyFeature(FeatureType.VISUAL, (3, 480, 640))}}
    out = CropResizeStep(96, 128).transform_features(features)
    assert out[PipelineFeatureType.OBSERVATION][KEY] == PolicyFeature(FeatureType.VISUAL, (3, 96, 128))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"height": 1, "width": 4}, "`height` \\(1\\)"),
        ({"height": 4}, "`width` \\(None\\).*`height`"),
        ({"fit": "zoom"}, "`fit` \\('zoom'\\) must be one of pad, crop, stretch"),
        ({"crop_box": [0, 0, 4]}, "`crop_box`.*top, left, height, width"),
        ({"pad_value": 255}, "`pad_value` \\(255\\)"),
        ({"per_camera": {"top": {"heigth": 4}}}, "`per_camera` \\(\\['heigth'\\]\\).*height"),
    ],
)
def test_a_bad_field_is_named(fields, named):
    with pytest.raises(ValueError, match=named):
        CropResizeStep(**fields)


def test_a_crop_that_does_not_fit_and_a_camera_that_is_not_there_are_named():
    with pytest.raises(ValueError, match=r"`crop_box` .* `top`, of which 9 x 9"):
        resized(CropResizeStep(crop_box=[0, 0, 10, 4]), top=picture(9, 9))
    with pytest.raises(KeyError, match=r"`left`; there are `top`"):
        resized(CropResizeStep(4, 4, cameras=["left"]), top=picture(9, 9))
