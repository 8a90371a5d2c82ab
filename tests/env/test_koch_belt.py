# SPDX-License-Identifier: Apache-2.0
"""A table whose top travels: what it does to the cube, to the expert, and to what was made without it."""

import json
from dataclasses import dataclass

import draccus
import numpy as np
import pytest
from draccus.utils import DecodingError
from lerobot.envs.configs import EnvConfig
from lerobot_env_koch import KochEnvConfig
from lerobot_env_koch.belt import Belt
from lerobot_env_koch.demos.recorder import PROVENANCE_FILE, DemoOptions, record_demos
from lerobot_env_koch.environment import KochEnv
from lerobot_env_koch.expert import make_expert
from lerobot_env_koch.physics import KochWorld
from lerobot_env_koch.units import units_to_rad

FRAME_S = 1 / 30


@dataclass
class Options:
    """As a stock CLI nests the environment's options."""

    env: EnvConfig


def lifted(world: KochWorld, seed: int) -> bool:
    world.reset("lift", np.random.default_rng(seed))
    expert = make_expert("lift")
    expert.reset(world)
    for _ in range(150):
        world.set_targets(units_to_rad(expert.act(world)))
        world.step(FRAME_S)
        if world.success():
            return True
    return False


@pytest.mark.parametrize("speed", [0.04, -0.02])
def test_the_cube_travels_with_the_belt_and_the_table_stays(speed: float) -> None:
    world = KochWorld(renderer="painter", belt_m_s=speed)
    world.reset("lift", np.random.default_rng(0))
    start, table = world.cube_position(), world.data.geom("table").xpos.copy()
    for _ in range(30):
        world.step(FRAME_S)
    travelled = world.cube_position() - start
    assert travelled[0] == pytest.approx(speed, abs=0.002)  # in one second
    assert np.abs(travelled[1:]).max() < 5e-4
    np.testing.assert_allclose(world.data.geom("table").xpos, table, atol=abs(speed) * FRAME_S + 1e-9)
    assert len(world.joint_positions) == 6


def test_a_belt_at_rest_is_no_belt() -> None:
    world = KochWorld(renderer="painter", belt_m_s=0.0)
    assert world.model.nq == KochWorld(renderer="painter").model.nq
    assert world.model.nq + 1 == KochWorld(renderer="painter", belt_m_s=0.01).model.nq


def test_a_belt_looks_like_the_table() -> None:
    pictures = []
    for speed in (0.0, 0.04):
        world = KochWorld(renderer="painter", belt_m_s=speed)
        world.reset("lift", np.random.default_rng(1))
        pictures.append(world.render("top", 96, 96))
    np.testing.assert_array_equal(*pictures)


def test_the_expert_lifts_from_a_belt() -> None:
    world = KochWorld(renderer="painter", belt_m_s=0.04)
    assert sum(lifted(world, seed) for seed in range(10)) >= 9


@pytest.mark.slow
@pytest.mark.parametrize(("speed", "least"), [(0.02, 190), (0.04, 180), (-0.02, 190)])
def test_the_expert_lifts_from_a_belt_over_200_seeds(speed: float, least: int) -> None:
    world = KochWorld(renderer="painter", belt_m_s=speed)
    assert sum(lifted(world, seed) for seed in range(200)) >= least


def test_the_same_seed_gives_the_same_episode_on_a_belt() -> None:
    seen = []
    for past in (0, 3):
        env = KochEnv("lift", belt_m_s=0.03)
        for seed in range(past):
            env.reset(seed=seed)
            env.step(env.action_space.sample())
        env.reset(seed=5)
        for _ in range(20):
            observation, *_ = env.step(np.array([0, -36, -22, 95, 0, 31], dtype=np.float32))
        seen.append(observation["environment_state"])
    np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize("speed", ["0.2", "-0.07", "nan"])
def test_a_belt_that_is_too_fast_is_refused_in_one_line(speed: str) -> None:
    with pytest.raises(DecodingError) as caught:
        draccus.parse(Options, args=["--env.type=koch", f"--env.belt_m_s={speed}"])
    assert "`belt_m_s` is" in str(caught.value)
    assert "at most 0.06 m/s" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_configuration_hands_the_speed_on() -> None:
    config = KochEnvConfig(belt_m_s=0.03)
    assert isinstance(KochEnv(**config.gym_kwargs).world._belt, Belt)


def test_a_recording_is_gone_on_with_at_the_same_speed_only(tmp_path) -> None:
    root = tmp_path / "demos"
    record_demos(DemoOptions("local/belt", root, episodes=1, belt_m_s=0.03))
    with pytest.raises(FileExistsError, match=r"recorded with belt_m_s=0\.03"):
        record_demos(DemoOptions("local/belt", root, episodes=2))
    assert len(record_demos(DemoOptions("local/belt", root, episodes=2, belt_m_s=0.03)).episodes) == 2


def test_a_recording_older_than_the_belt_is_gone_on_with(tmp_path) -> None:
    root = tmp_path / "demos"
    record_demos(DemoOptions("local/old", root, episodes=1))
    file = root / PROVENANCE_FILE
    content = json.loads(file.read_text())
    del content["settings"]["belt_m_s"]
    file.write_text(json.dumps(content))
    assert len(record_demos(DemoOptions("local/old", root, episodes=2)).episodes) == 2
