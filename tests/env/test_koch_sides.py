# SPDX-License-Identifier: Apache-2.0
"""The tasks with places beside the goal: what tells ways apart, what ends them, what demonstrations say."""

import numpy as np
import pytest
from lerobot_env_koch.demos.recorder import DemoOptions, roll_out
from lerobot_env_koch.environment import KochEnv
from lerobot_env_koch.expert import make_expert
from lerobot_env_koch.sides import INSTRUCTIONS, LEFT, NEAR, PLACES_M, RIGHT, SIDE_M


def side_of(env: KochEnv) -> int:
    return int(np.sign(env.world.next_stop[0] - env.world.goal[0]))


def played(env: KochEnv, towards: np.ndarray, frames: int = 60) -> tuple[bool, bool, int]:
    """Hold the tip at a place; whether the episode ended, with success, and after how many frames."""
    from lerobot_env_koch.expert import GRIPPER_CLOSED_RAD, _joints
    from lerobot_env_koch.units import rad_to_units

    for frame in range(frames):
        q = _joints(towards, 0.0, GRIPPER_CLOSED_RAD) + env.world.holding_offset()
        _, _, ended, _, info = env.step(rad_to_units(q).astype(np.float32))
        if ended:
            return True, info["is_success"], frame + 1
    return False, False, frames


def test_only_the_instruction_tells_the_sides_apart():
    env = KochEnv("choose")
    seen = {}
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        assert env.task_description == INSTRUCTIONS[side_of(env)]
        assert np.allclose(observation["environment_state"][4:], env.world.goal, atol=1e-6)
        seen.setdefault(env.task_description, []).append(seed)
    assert sorted(seen) == sorted(INSTRUCTIONS.values())


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_wrong_side_ends_the_episode_without_success(seed):
    env = KochEnv("choose")
    env.reset(seed=seed)
    ended, success, frames = played(env, env.world.goal - side_of(env) * SIDE_M)
    assert (ended, success) == (True, False)
    assert frames < 60
    env.reset(seed=seed)
    assert played(env, env.world.goal + side_of(env) * SIDE_M)[:2] == (True, True)


@pytest.mark.parametrize("task", ["choose", "either"])
def test_the_middle_is_no_side(task):
    env = KochEnv(task)
    env.reset(seed=0)
    assert played(env, env.world.goal)[0] is False


@pytest.mark.parametrize("side", [-1, 1])
def test_either_side_counts_where_the_task_says_so(side):
    env = KochEnv("either")
    env.reset(seed=0)
    assert env.task_description == "Move the gripper to one side of the green goal."
    assert played(env, env.world.goal + side * SIDE_M)[:2] == (True, True)


@pytest.mark.parametrize("place", [LEFT, RIGHT, NEAR])
def test_around_the_goal_every_place_counts_and_the_goal_itself_ends_the_episode(place):
    env = KochEnv("around")
    env.reset(seed=0)
    assert env.task_description == "Move the gripper beside or before the green goal, not to the goal itself."
    assert played(env, env.world.goal + PLACES_M[place])[:2] == (True, True)
    env.reset(seed=0)
    ended, success, frames = played(env, env.world.goal)
    assert (ended, success) == (True, False)
    assert frames < 60


def test_around_the_goal_the_median_of_each_joint_is_none_of_the_ways():
    """Who regresses with an L1 loss is sent to the goal itself."""
    from lerobot_env_koch import kinematics

    env = KochEnv("around")
    for seed in range(30):
        env.reset(seed=seed)
        ways = [kinematics.inverse(env.world.goal + place)[0] for place in PLACES_M.values()]
        tip, _ = kinematics.forward(np.array([*np.median(ways, axis=0), 0.0, 0.0]))
        assert np.linalg.norm(tip - env.world.goal) < 0.008
        assert min(np.linalg.norm(tip - env.world.goal - place) for place in PLACES_M.values()) > 0.02


def test_around_the_goal_demonstrators_take_each_place_about_equally_often():
    env = KochEnv("around")
    seen = []
    for seed in range(90):
        env.reset(seed=seed)
        seen.append(tuple(np.round(env.world.next_stop - env.world.goal, 6)))
    assert sorted(set(seen)) == sorted(tuple(place) for place in PLACES_M.values())
    assert all(18 <= seen.count(place) <= 42 for place in set(seen))


@pytest.mark.parametrize(
    ("task", "texts", "ways"), [("choose", 2, {-1, 1}), ("either", 1, {-1, 1}), ("around", 1, {-1, 0, 1})]
)
def test_demonstrations_say_what_the_episode_asked_for(tmp_path, task, texts, ways):
    options = DemoOptions("local/sides", tmp_path, task=task)
    env = KochEnv(task)
    told, sides = set(), set()
    for attempt in range(12):
        frames, episode = roll_out(env, options, attempt)
        assert episode.success
        told |= {frame["task"] for frame in frames}
        sides.add(side_of(env))
        assert len({frame["task"] for frame in frames}) == 1
    assert len(told) == texts
    assert sides == ways


def test_the_other_tasks_never_fail_early():
    env = KochEnv("reach")
    env.reset(seed=0)
    expert = make_expert("reach")
    expert.reset(env.world)
    assert not env.world.failure()
    assert env.world.instruction == "Move the gripper to the green goal."
