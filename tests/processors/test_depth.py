# SPDX-License-Identifier: Apache-2.0
"""Depth to shares and back: exact where it was measured, marked where it was not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.processor import TransitionKey
from lerobot_robot_processors.steps.depth import DepthStep

KEY = "observation.images.top_depth"
SCALES = st.sampled_from(["linear", "log", "inverse"])


def through(step, value, key=KEY):
    return step({TransitionKey.OBSERVATION: {key: value}})[TransitionKey.OBSERVATION]


@given(
    SCALES,
    st.sampled_from(["mm", "m"]),
    st.floats(0.05, 1),
    st.floats(0.1, 20),
    st.sampled_from(["none", "channel", "key"]),
    st.sampled_from([(), (2,), (2, 3)]),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=150)
def test_the_inverse_gives_back_what_was_measured(scale, unit, near, width, mask, leading, seed):
    far = near + width
    step = DepthStep(near, far, unit, scale, mask)
    metres = torch.from_numpy(np.random.default_rng(seed).uniform(near, far, (*leading, 1, 3, 4)))
    given_depth = metres * (1000 if unit == "mm" else 1)
    there = through(step, given_depth)
    assert 0 <= float(there[KEY].min()) <= float(there[KEY].max()) <= 1
    back = step.inverted()({TransitionKey.OBSERVATION: there})[TransitionKey.OBSERVATION]
    assert set(back) == {KEY}
    torch.testing.assert_close(back[KEY], given_depth, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", ["linear", "log", "inverse"])
def test_every_millimetre_of_a_sensor_comes_back(scale):
    step = DepthStep(0.1, 4.0, "mm", scale)
    array = np.arange(100, 4001, dtype=np.uint16).reshape(1, -1, 1)
    there = through(step, array, "top_depth")["top_depth"]
    assert there.dtype == np.float32
    back = through(step.inverted(), there, "top_depth")["top_depth"]
    np.testing.assert_array_equal(back.round().astype(np.uint16), array)


@pytest.mark.parametrize("scale", ["linear", "log", "inverse"])
@pytest.mark.parametrize("outside", ["clip", "invalid"])
def test_a_sensors_bytes_and_the_same_floats_become_the_same(scale, outside):
    step = DepthStep(0.2, 3.0, "mm", scale, "channel", outside)
    array = np.arange(2**16, dtype=np.uint16).reshape(256, 256, 1)
    looked_up, computed = (
        through(step, given_array, "top_depth")["top_depth"]
        for given_array in (array, array.astype(np.float32))
    )
    np.testing.assert_array_equal(looked_up, computed)


@pytest.mark.parametrize("mask", ["channel", "key"])
def test_what_was_not_measured_is_masked_and_comes_back_as_zero(mask):
    step = DepthStep(0.5, 2.0, "m", "log", mask, outside="invalid", invalid_value=-1.0)
    values = torch.tensor([[[1.0, 0.0, -3.0, torch.nan, torch.inf, 0.4, 2.1]]])
    there = through(step, values)
    valid = there[KEY][1:] if mask == "channel" else there[f"{KEY}_valid"]
    assert valid.flatten().tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert there[KEY][0].flatten().tolist()[1:] == [-1] * 6
    back = step.inverted()({TransitionKey.OBSERVATION: there})[TransitionKey.OBSERVATION][KEY]
    torch.testing.assert_close(back, torch.tensor([[[1.0, 0, 0, 0, 0, 0, 0]]]))


def test_depth_outside_the_range_is_clipped_to_its_ends():
    share = through(DepthStep(0.5, 2.0, "m"), torch.tensor([[[0.1, 0.5, 1.25, 2.0, 9.0]]]))[KEY]
    assert share.flatten().tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_a_number_outside_the_range_is_a_mask_of_its_own():
    step = DepthStep(0.5, 2.0, "m", invalid_value=-1.0)
    back = through(step.inverted(), through(step, torch.tensor([[[1.0, 0.0]]]))[KEY])[KEY]
    assert back.flatten().tolist() == [1.0, 0.0]


def test_colours_pass_and_are_refused_when_named():
    colours = torch.rand(2, 3, 4, 4)
    key = "observation.images.top"
    assert through(DepthStep(), colours, key)[key] is colours
    with pytest.raises(ValueError, match=r"`cameras` \(\['top'\]\) .*`observation.images.top` has 3"):
        through(DepthStep(cameras=["top"]), colours, key)


def test_a_sensors_uint16_tensor_as_rollout_gives_it():
    raw = torch.from_numpy(np.full((4, 4, 1), 1050, np.uint16)).permute(2, 0, 1).unsqueeze(0)
    share = through(DepthStep(0.1, 2.0), raw)[KEY]
    torch.testing.assert_close(share, torch.full((1, 1, 4, 4), 0.5))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"near_m": 2.0, "far_m": 1.0}, r"`near_m, far_m` \(\(2.0, 1.0\)\)"),
        ({"near_m": 0.0, "scale": "log"}, r"`near_m` \(0.0\).*'log'"),
        ({"unit": "cm"}, r"`unit` \('cm'\) must be mm or m"),
        ({"mask": "alpha"}, "`mask`"),
        ({"invalid_value": float("nan")}, "`invalid_value`"),
    ],
)
def test_a_bad_field_is_named(fields, named):
    with pytest.raises(ValueError, match=named):
        DepthStep(**fields)
