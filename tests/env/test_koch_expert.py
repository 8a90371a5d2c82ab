# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from lerobot_env_koch.constants import TASKS
from lerobot_env_koch.expert import LEAD_RAD, make_expert
from lerobot_env_koch.physics import KochWorld
from lerobot_env_koch.units import units_to_rad

EPISODE = 150


def successes(task: str, seeds: range, skill: str = "expert", noise: float = 1.0) -> tuple[int, list[int]]:
    world = KochWorld(renderer="painter")
    lengths = []
    for seed in seeds:
        world.reset(task, np.random.default_rng(seed))
        expert = make_expert(task, skill, np.random.default_rng(seed + 1_000_000), noise)
        expert.reset(world)
        for step in range(EPISODE):
            world.set_targets(units_to_rad(expert.act(world)))
            world.step(1 / 30)
            if world.success(task):
                lengths.append(step + 1)
                break
    return len(lengths), lengths


@pytest.mark.parametrize("task", TASKS)
def test_expert_succeeds(task: str) -> None:
    assert successes(task, range(10))[0] == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "least"),
    [(task, 180 if task == "place" else 190) for task in TASKS],
)
def test_expert_succeeds_over_200_seeds(task: str, least: int) -> None:
    done, lengths = successes(task, range(200))
    assert done >= least
    if task == "lift":
        assert 40 <= np.mean(lengths) <= 70, "a human's pace"


def test_skills_are_ordered() -> None:
    expert = successes("lift", range(20))[0]
    noisy = successes("lift", range(20), "noisy")[0]
    random = successes("lift", range(20), "random")[0]
    assert expert > noisy > random
    assert random <= 1


def test_noise_tunes_the_noisy_skill() -> None:
    assert successes("lift", range(20), "noisy", noise=0.0)[0] == 20
    assert successes("lift", range(20), "noisy", noise=0.5)[0] > successes("lift", range(20), "noisy", 2.0)[0]


def test_action_depends_on_the_present_state_alone() -> None:
    """No hidden phase: a fresh expert, asked in the middle of an episode, does what the old one does."""
    world = KochWorld(renderer="painter")
    world.reset("lift", np.random.default_rng(2))
    expert = make_expert("lift")
    expert.reset(world)
    for _ in range(45):
        action = expert.act(world)
        np.testing.assert_array_equal(action, make_expert("lift").act(world))
        world.set_targets(units_to_rad(action))
        world.step(1 / 30)


def test_motion_is_smooth() -> None:
    world = KochWorld(renderer="painter")
    world.reset("place", np.random.default_rng(3))
    expert = make_expert("place")
    previous = world.joint_positions
    for _ in range(90):
        world.set_targets(units_to_rad(expert.act(world)))
        world.step(1 / 30)
        assert (np.abs(world.joint_positions - previous) < LEAD_RAD).all()
        previous = world.joint_positions


def test_expert_recovers_when_the_cube_is_taken_away() -> None:
    world = KochWorld(renderer="painter")
    world.reset("lift", np.random.default_rng(4))
    expert = make_expert("lift")
    for step in range(EPISODE):
        if step == 30:
            world.place_cube([-0.03, 0.13, 0.012], 0.1)
        world.set_targets(units_to_rad(expert.act(world)))
        world.step(1 / 30)
        if world.success("lift"):
            return
    raise AssertionError("the expert did not come back to the cube")


def test_wrong_names_are_named() -> None:
    with pytest.raises(ValueError, match=r"'lfit'.*reach, lift, place"):
        make_expert("lfit")
    with pytest.raises(ValueError, match=r"'good'.*expert, noisy, random"):
        make_expert("lift", "good")
    with pytest.raises(ValueError, match="`noise` is -1"):
        make_expert("lift", "noisy", noise=-1)
