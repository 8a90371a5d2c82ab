# SPDX-License-Identifier: Apache-2.0
"""Poses recorded from joint commands drive the simulated Koch, in closed and in open loop."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from lerobot_env_koch.constants import JOINT_NAMES
from lerobot_env_koch.expert import make_expert
from lerobot_env_koch.physics import KochWorld
from lerobot_env_koch.units import rad_to_units, units_to_rad

from lerobot_ext.pipelines.robot_side import RobotSide

EXAMPLE = Path(__file__).parents[2] / "examples" / "koch_end_effector.py"
MOTORS = [f"{name}.pos" for name in JOINT_NAMES]
FRAMES = 150


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """The example's own file of steps."""
    spec = importlib.util.spec_from_file_location("koch_end_effector", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    path = tmp_path_factory.mktemp("poses") / "poses.json"
    example.write_pipelines(path)
    return path


def named(values) -> dict[str, float]:
    return dict(zip(MOTORS, map(float, values), strict=True))


def observed(world: KochWorld) -> dict[str, float]:
    return named(rad_to_units(world.joint_positions))


def as_dataset(pose: dict[str, float]) -> dict[str, float]:
    """A dataset keeps float32."""
    return {name: float(np.float32(value)) for name, value in pose.items()}


def send(world: KochWorld, command: dict[str, float]) -> None:
    world.set_targets(units_to_rad([command[name] for name in MOTORS]))
    world.step(1 / 30)


def fresh_world(seed: int) -> KochWorld:
    world = KochWorld(renderer="painter")
    world.reset("lift", np.random.default_rng(seed))
    return world


def teleoperate(file: Path, seed: int) -> tuple[list[dict[str, float]], bool]:
    """An expert leads in joints, the arm follows the recorded poses: those, and whether it lifted."""
    world, side, expert = fresh_world(seed), RobotSide.load(file), make_expert("lift")
    expert.reset(world)
    poses = []
    for _ in range(FRAMES):
        now = observed(world)
        poses.append(as_dataset(side.teleop_action((named(expert.act(world)), now))))
        send(world, side.robot_action((poses[-1], now)))
        if world.success("lift"):
            return poses, True
    return poses, False


@pytest.mark.parametrize("seed", range(5))
def test_the_arm_lifts_the_cube_while_its_poses_are_recorded_and_by_them_again(file, seed):
    poses, lifted = teleoperate(file, seed)
    assert lifted
    world, side = fresh_world(seed), RobotSide.load(file)
    for pose in [*poses, *poses[-1:] * 10]:
        send(world, side.robot_action((pose, observed(world))))
        if world.success("lift"):
            return
    pytest.fail("the replayed poses did not lift the cube")


def test_what_the_arm_observes_is_where_its_tip_is(file):
    world, side = fresh_world(0), RobotSide.load(file)
    for _ in range(30):
        send(world, named(make_expert("lift").act(world)))
    pose = side.robot_observation(observed(world))
    np.testing.assert_allclose([pose[f"ee.{axis}"] for axis in "xyz"], world.gripper_tip(), atol=1e-6)
