# SPDX-License-Identifier: Apache-2.0
"""Motor values of dicts, tensors and arrays, read and put back."""

import numpy as np
import pytest
import torch
from lerobot_robot_processors.joint_values import motor_names, read_joints

ARM = {
    "pan.pos": 1.0,
    "lift.pos": np.float32(2.0),
    "gripper.pos": 3,
    "front": np.zeros((2, 2, 3)),
    "ok.pos": True,
}


def test_the_motors_of_a_dict_are_its_numbers_called_pos():
    assert motor_names(ARM) == ("pan", "lift", "gripper")


def test_a_dict_keeps_what_is_no_motor_and_is_not_changed():
    read = read_joints(ARM)
    out = read.replaced(read.array * 2)
    assert out["pan.pos"] == 2.0
    assert type(out["lift.pos"]) is float
    assert out["front"] is ARM["front"]
    assert ARM["pan.pos"] == 1.0


def test_named_motors_come_in_the_order_asked_for():
    assert read_joints(ARM, ["gripper", "pan"]).array.tolist() == [3.0, 1.0]


def test_a_missing_motor_is_named():
    with pytest.raises(KeyError, match=r"`elbow\.pos`"):
        read_joints(ARM, ["elbow"])


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3)])
def test_a_tensor_comes_back_with_its_shape_and_type(shape):
    given = torch.randn(shape, dtype=torch.float32)
    read = read_joints(given, ["a", "b", "c"])
    out = read.replaced(read.array)
    assert out.dtype is torch.float32
    assert torch.equal(out, given)
    assert read.array.dtype == np.float64


def test_a_tensor_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"2 motors.*3 columns"):
        read_joints(torch.zeros(3), ["a", "b"])


def test_an_array_comes_back_as_an_array_of_its_type():
    given = np.ones((2, 3), dtype=np.float32)
    out = read_joints(given).replaced(np.zeros((2, 3)))
    assert isinstance(out, np.ndarray)
    assert out.dtype == np.float32
