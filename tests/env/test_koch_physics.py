# SPDX-License-Identifier: Apache-2.0
import math

import mujoco
import numpy as np
import pytest
from lerobot_env_koch.constants import GRIPPER_HOLD_RAD, JOINT_NAMES
from lerobot_env_koch.expert import make_expert
from lerobot_env_koch.physics import HAND_SPEED_RAD_S, KochWorld
from lerobot_env_koch.tasks import Region
from lerobot_env_koch.tour import REST_S, SIDE_M, Tour
from lerobot_env_koch.units import LOWER_RAD, MID_RAD, UPPER_RAD, units_to_rad

ALL = np.ones(6, dtype=bool)
NONE = np.zeros(6, dtype=bool)


@pytest.fixture
def world() -> KochWorld:
    world = KochWorld(renderer="painter")
    world.reset("lift", np.random.default_rng(0))
    return world


def lift_cube(world: KochWorld, seed: int) -> None:
    world.reset("lift", np.random.default_rng(seed))
    expert = make_expert("lift")
    for _ in range(100):
        world.set_targets(units_to_rad(expert.act(world)))
        world.step(1 / 30)
        if world.success("lift"):
            return
    raise AssertionError("the expert did not lift the cube")


def test_servos_come_near_their_targets_and_hold(world: KochWorld) -> None:
    target = np.array([0.5, 0.2, -0.3, 1.2, 0.4, 0.8])
    world.set_targets(target)
    world.step(2.0)
    # Soft servos sag under the arm's weight: 2 degrees, no more.
    assert np.abs(world.joint_positions - target).max() < math.radians(2.0)
    assert np.abs(world.joint_velocities).max() < 0.01


def test_targets_are_kept_within_the_stops(world: KochWorld) -> None:
    world.set_targets(np.full(6, 10.0))
    np.testing.assert_allclose(world.targets, UPPER_RAD)
    world.set_targets(np.full(6, -10.0))
    world.step(3.0)
    assert (world.joint_positions > LOWER_RAD - math.radians(1.5)).all()


def test_no_torque_or_speed_beyond_the_data_sheet(world: KochWorld) -> None:
    fastest = np.zeros(6)
    for target in (UPPER_RAD, LOWER_RAD, MID_RAD):
        world.set_targets(target)
        for _ in range(60):
            world.step(1 / 30)
            fastest = np.maximum(fastest, np.abs(world.joint_velocities))
            # At most twice stall: a motor driven against its own motion.
            assert (np.abs(world.joint_currents) <= 2 * 1.47).all()
    # No-load speeds are 6.4 and 10.8 rad/s; the swinging arm may push a joint a little beyond.
    assert (fastest < 1.2 * np.array([6.4, 6.4, 10.8, 10.8, 10.8, 10.8])).all(), fastest


def test_limp_arm_falls_and_comes_to_rest(world: KochWorld) -> None:
    height = world.gripper_tip()[2]
    world.set_torque(NONE)
    world.step(0.2)
    assert world.joint_currents.tolist() == [0.0] * 6
    world.step(3.0)
    assert world.gripper_tip()[2] < height - 0.02
    assert np.abs(world.joint_velocities).max() < 0.05
    assert world.gripper_tip()[2] > -0.02, "the table must stop it"


def test_limp_arm_does_not_gain_energy(world: KochWorld) -> None:
    world.place_cube([0.0, 0.3, 0.012])
    world.set_torque(NONE)
    world.model.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_ENERGY)
    world.step(1 / 30)
    energies = []
    for _ in range(60):
        world.step(1 / 30)
        energies.append(world.data.energy.sum())
    assert np.diff(energies).max() < 1e-4  # J; the arm starts with about 0.1


def test_hand_drags_limp_joints_exactly_over_their_whole_range(world: KochWorld) -> None:
    world.set_torque(NONE)
    for pose in (UPPER_RAD, LOWER_RAD, MID_RAD):
        world.hold_joint(ALL, pose)
        world.step(2.5)
        np.testing.assert_allclose(world.joint_positions, pose, atol=1e-12)


def test_hand_moves_at_a_human_pace_and_reports_the_speed(world: KochWorld) -> None:
    world.set_torque(NONE)
    world.hold_joint(ALL, MID_RAD)
    world.step(2.0)
    world.hold_joint(ALL, UPPER_RAD)
    world.step(0.1)
    moved = world.joint_positions - MID_RAD
    assert moved.max() == pytest.approx(0.1 * HAND_SPEED_RAD_S, abs=0.01)
    assert world.joint_velocities.max() == pytest.approx(HAND_SPEED_RAD_S)


def test_hand_does_not_win_against_torque(world: KochWorld) -> None:
    before = world.joint_positions
    world.hold_joint(ALL, before + 0.5)
    world.step(0.5)
    assert np.abs(world.joint_positions - before).max() < 0.05


def test_held_joints_stay_while_others_fall(world: KochWorld) -> None:
    world.set_torque(NONE)
    start = world.joint_positions
    mask = np.array([name == "elbow_flex" for name in JOINT_NAMES])
    world.hold_joint(mask, start)
    world.step(1.0)
    assert world.joint_positions[2] == pytest.approx(start[2], abs=1e-12)
    assert abs(world.joint_positions[3] - start[3]) > 0.05


def test_cube_is_held_without_slipping(world: KochWorld) -> None:
    lift_cube(world, 3)
    grip = world.gripper_tip() - world.cube_position()
    world.step(5.0)
    assert world.cube_touched()
    assert np.linalg.norm(world.gripper_tip() - world.cube_position() - grip) < 0.002
    assert world.cube_speed() < 0.005
    assert world.joint_positions[5] == pytest.approx(GRIPPER_HOLD_RAD, abs=0.03)


def test_cube_survives_being_shaken(world: KochWorld) -> None:
    lift_cube(world, 5)
    targets = world.targets
    for step in range(60):
        shake = 0.15 * math.sin(step * 0.6) * np.array([1.0, 0.3, 0.3, 0.5, 0.0, 0.0])
        world.set_targets(targets + shake)
        world.step(1 / 30)
        assert world.cube_speed() < 1.0
    assert np.linalg.norm(world.gripper_tip() - world.cube_position()) < 0.015


def test_opening_the_gripper_drops_the_cube(world: KochWorld) -> None:
    lift_cube(world, 3)
    world.set_targets([*world.targets[:5], 1.2])
    world.step(1.0)
    assert world.cube_position()[2] == pytest.approx(0.012, abs=0.002)


def test_empty_gripper_closes_fully(world: KochWorld) -> None:
    world.set_targets([*world.targets[:5], 0.0])
    world.step(1.0)
    assert world.joint_positions[5] == pytest.approx(0.0, abs=0.02)


def test_any_rhythm_of_steps_reaches_the_same_state() -> None:
    states = []
    for pieces in ([0.5], [1 / 30] * 15, [0.001] * 500):
        world = KochWorld(renderer="painter")
        world.reset("lift", np.random.default_rng(1))
        world.set_targets(MID_RAD)
        for dt in pieces:
            world.step(dt)
        states.append(np.concatenate([world.joint_positions, [world.time_s]]))
    np.testing.assert_array_equal(states[0], states[1])
    np.testing.assert_array_equal(states[0], states[2])


def test_a_new_scene_leaves_the_arm_as_it_is(world: KochWorld) -> None:
    torque = np.array([True, False, True, True, True, False])
    world.set_targets([0.5, 0.2, -0.3, 1.2, 0.4, 0.8])
    world.set_torque(torque)
    world.step(0.2)
    q, q_dot, targets = world.joint_positions, world.joint_velocities, world.targets
    cube = world.cube_position()
    world.new_scene("place", np.random.default_rng(7))
    np.testing.assert_array_equal(world.joint_positions, q)
    np.testing.assert_array_equal(world.joint_velocities, q_dot)
    np.testing.assert_array_equal(world.targets, targets)
    np.testing.assert_array_equal(world.torque_enabled, torque)
    assert world.task == "place"
    assert np.abs(world.cube_position() - cube).max() > 0.001


def test_reset_is_bit_equal_by_seed_whatever_came_before(world: KochWorld) -> None:
    def trajectory() -> np.ndarray:
        world.reset("place", np.random.default_rng(7))
        expert = make_expert("place")
        states = []
        for _ in range(40):
            world.set_targets(units_to_rad(expert.act(world)))
            world.step(1 / 30)
            states.append(np.concatenate([world.joint_positions, world.environment_state()]))
        return np.array(states)

    first = trajectory()
    world.set_torque(NONE)
    world.hold_joint(ALL, UPPER_RAD)
    world.step(0.513)
    np.testing.assert_array_equal(first, trajectory())


@pytest.mark.parametrize("yaw", [-0.7, -0.2, 0.0, 0.4, 0.7])
def test_cube_yaw_is_measured_modulo_a_quarter_turn(world: KochWorld, yaw: float) -> None:
    for quarter in range(4):
        world.place_cube([0.0, 0.15, 0.012], yaw + quarter * math.pi / 2)
        mujoco.mj_forward(world.model, world.data)
        assert world.cube_yaw() == pytest.approx(yaw, abs=1e-9)


def test_success_needs_the_goal_to_be_held(world: KochWorld) -> None:
    world.place_cube([0.0, 0.3, 0.12])
    world.step(1 / 30)
    assert not world.success()
    world.step(1.0)
    assert not world.success(), "a cube that falls through the height is not lifted"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: w.reset("lfit", np.random.default_rng(0)), "'lfit'.*reach, lift, place"),
        (lambda w: w.set_targets(np.zeros(5)), r"`q_rad` has shape \(5,\)"),
        (lambda w: w.set_targets([np.nan] * 6), "finite"),
        (lambda w: w.step(-1.0), "`dt_s` is -1.0"),
        (lambda w: w.success("place"), "reset for 'lift'"),
        (lambda w: w.render("side", 96, 96), "'side'.*top, wrist"),
        (lambda w: w.hold_joint(ALL, [np.nan] * 6), "finite angle for each held joint"),
    ],
)
def test_bad_input_is_named(world: KochWorld, call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(world)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Region(x_min_m=0.05, x_max_m=0.0), "x_min_m.*exceeds"),
        (Region(y_max_m=0.3), "the arm grasps from"),
        (Region(yaw_rad=2.0), "yaw_rad"),
        (Region(y_min_m=float("nan")), "finite"),
    ],
)
def test_impossible_region_is_named(region: Region, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KochWorld(region)


def test_a_tour_counts_stops_in_order_and_only_after_a_rest() -> None:
    middle = np.array([0.0, 0.14, 0.08])
    tour = Tour(middle)
    left, right = middle - SIDE_M, middle + SIDE_M
    tour.follow(right, 1.0)
    tour.follow(middle, 1.0)
    assert tour.done == 0  # the left one comes first
    tour.follow(left, 0.01)
    assert tour.done == 1
    tour.follow(middle, REST_S / 2)
    tour.follow(left, 0.01)  # left the middle too early: the rest begins anew
    tour.follow(middle, REST_S / 2)
    assert tour.done == 1
    tour.follow(middle, REST_S)
    for stop in (right, middle, left):
        assert not tour.is_over
        tour.follow(stop, REST_S)
    assert tour.is_over
    assert tour.missing_m(right) == 0.0


def test_a_tour_looks_alike_on_the_way_there_and_back() -> None:
    """What a policy sees in the middle does not tell where to go next."""
    world = KochWorld(renderer="painter")
    world.reset("tour", np.random.default_rng(0))
    expert = make_expert("tour")
    resting: dict[int, list[np.ndarray]] = {1: [], 3: []}
    for _ in range(140):
        world.set_targets(units_to_rad(expert.act(world)))
        world.step(1 / 30)
        at_rest = np.linalg.norm(world.gripper_tip() - world.goal) < 0.004
        if at_rest and world._guide is not None and world._guide.done in resting:
            resting[world._guide.done].append(np.array([*world.joint_positions, *world.environment_state()]))
    first, second = (np.array(resting[done][-1]) for done in (1, 3))
    np.testing.assert_allclose(first, second, atol=0.02)
    assert world.success("tour")
