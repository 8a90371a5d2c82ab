# SPDX-License-Identifier: Apache-2.0
import math

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lerobot_env_koch import kinematics
from lerobot_env_koch.constants import (
    CENTRE_TICK,
    FOLLOWER_SERVOS,
    JOINT_NAMES,
    JOINT_RANGES_RAD,
    TICKS_PER_TURN,
)
from lerobot_env_koch.physics import MODEL_PATH
from lerobot_env_koch.units import (
    LOWER_RAD,
    MID_RAD,
    RAD_PER_TICK,
    UPPER_RAD,
    quantize,
    rad_to_ticks,
    rad_to_units,
    ticks_to_rad,
    units_to_rad,
)

ANGLES = arrays(np.float64, 6, elements=st.floats(-7, 7, allow_nan=False))
POSES = st.tuples(*[st.floats(*JOINT_RANGES_RAD[name]) for name in JOINT_NAMES]).map(np.array)


@given(ANGLES)
def test_units_round_trip(q: np.ndarray) -> None:
    np.testing.assert_allclose(units_to_rad(rad_to_units(q)), q, atol=1e-12)


@given(ANGLES)
def test_ticks_round_trip_to_half_a_tick(q: np.ndarray) -> None:
    assert np.abs(ticks_to_rad(rad_to_ticks(q)) - q).max() <= RAD_PER_TICK / 2 + 1e-12
    ticks = rad_to_ticks(q)
    np.testing.assert_array_equal(rad_to_ticks(ticks_to_rad(ticks)), ticks)


def test_units_are_those_of_the_canonical_calibration() -> None:
    np.testing.assert_allclose(rad_to_units(LOWER_RAD)[[1, 2, 3, 5]], [-100, -100, -100, 0])
    np.testing.assert_allclose(rad_to_units(UPPER_RAD)[[1, 2, 3, 5]], 100)
    np.testing.assert_allclose(rad_to_units(np.full(6, math.pi))[[0, 4]], 100)
    np.testing.assert_allclose(rad_to_units(np.zeros(6))[[0, 4]], 0)


@given(POSES)
def test_units_agree_with_stock_normalisation_of_ticks(q: np.ndarray) -> None:
    """What stock LeRobot makes of our ticks after a canonical calibration, by its formula."""
    ticks = rad_to_ticks(q).astype(float)
    low = np.array([0, *rad_to_ticks(LOWER_RAD)[1:4], 0, rad_to_ticks(LOWER_RAD)[5]])
    high = np.array([4095, *rad_to_ticks(UPPER_RAD)[1:4], 4095, rad_to_ticks(UPPER_RAD)[5]])
    stock = (np.clip(ticks, low, high) - low) / (high - low) * 200 - 100
    stock[5] = (stock[5] + 100) / 2
    units_per_tick = 200 / (high - low)
    assert (np.abs(stock - rad_to_units(q)) / units_per_tick).max() <= 2


def test_middle_of_the_range_is_the_homing_tick() -> None:
    np.testing.assert_array_equal(rad_to_ticks(MID_RAD), CENTRE_TICK)
    assert math.isclose(RAD_PER_TICK * TICKS_PER_TURN, math.tau)


def test_quantize_is_idempotent() -> None:
    q = quantize(np.linspace(LOWER_RAD, UPPER_RAD, 50))
    np.testing.assert_allclose(quantize(q), q, atol=1e-12)


def test_wrong_number_of_joints_is_named() -> None:
    with pytest.raises(ValueError, match=r"`q_rad` has shape \(5,\).*gripper"):
        rad_to_units(np.zeros(5))


def test_ranges_and_servos_are_those_of_the_model() -> None:
    model = mujoco.MjModel.from_xml_path(str(MODEL_PATH))
    for index, name in enumerate(JOINT_NAMES):
        assert model.joint(index).name == name
        np.testing.assert_allclose(model.joint(index).range, JOINT_RANGES_RAD[name])
        assert model.actuator(index).name == name
        assert model.actuator(index).forcerange[1] == FOLLOWER_SERVOS[name].stall_torque_nm
        assert FOLLOWER_SERVOS[name].id == index + 1


@given(POSES)
def test_closed_form_kinematics_agree_with_the_model(q: np.ndarray) -> None:
    model, data = _model()
    data.qpos[:6] = q
    mujoco.mj_kinematics(model, data)
    tip, pitch = kinematics.forward(q)
    np.testing.assert_allclose(tip, data.site("tip").xpos, atol=1e-9)
    np.testing.assert_allclose(data.site("tip").xmat.reshape(3, 3)[2, 1], -math.sin(pitch), atol=1e-9)


@given(st.floats(-0.06, 0.06), st.floats(0.12, 0.17), st.floats(0.012, 0.10))
def test_inverse_kinematics_comes_back(x: float, y: float, z: float) -> None:
    q, pitch = kinematics.inverse(np.array([x, y, z]))
    tip, pitch_back = kinematics.forward(np.array([*q, 0.0, 0.0]))
    np.testing.assert_allclose(tip, [x, y, z], atol=1e-9)
    assert math.isclose(pitch, pitch_back, abs_tol=1e-9)
    assert math.isclose(pitch, math.pi / 2) or z > 0.05, "the hand must point down where it grasps"


def test_point_out_of_reach_is_named() -> None:
    with pytest.raises(ValueError, match=r"`tip_m` \[0.0, 0.5, 0.1\] is out of reach"):
        kinematics.inverse(np.array([0.0, 0.5, 0.1]))


def _model(cache: list[tuple[mujoco.MjModel, mujoco.MjData]] = []) -> tuple[mujoco.MjModel, mujoco.MjData]:  # noqa: B006
    if not cache:
        model = mujoco.MjModel.from_xml_path(str(MODEL_PATH))
        cache.append((model, mujoco.MjData(model)))
    return cache[0]
