# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
from dataclasses import dataclass

import draccus
import gymnasium as gym
import numpy as np
import pytest
from draccus.utils import DecodingError
from lerobot.envs.configs import EnvConfig
from lerobot.envs.factory import make_env
from lerobot.envs.utils import env_to_policy_features, preprocess_observation
from lerobot_env_koch import KochEnvConfig
from lerobot_env_koch.config import GYM_ID
from lerobot_env_koch.constants import TASKS
from lerobot_env_koch.environment import KochEnv
from lerobot_env_koch.expert import make_expert

STATES = ("observation.state", "observation.environment_state")
IMAGES = ("observation.images.top", "observation.images.wrist")
HOME = np.array([0, -36, -22, 95, 0, 31], dtype=np.float32)


@dataclass
class Options:
    """As a stock CLI nests the environment's options."""

    env: EnvConfig


def rollout(env: KochEnv, seed: int, steps: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    seen = []
    for _ in range(steps):
        action = HOME + rng.normal(0, 10, 6).astype(np.float32)
        observation, reward, *_ = env.step(action)
        seen.append(np.concatenate([observation["agent_pos"], observation["environment_state"], [reward]]))
    return np.array(seen)


def test_same_seed_gives_the_same_episode_bit_for_bit() -> None:
    first, other = KochEnv(), KochEnv()
    rollout(other, seed=11)  # a past must not matter
    np.testing.assert_array_equal(rollout(first, seed=5), rollout(other, seed=5))
    assert not np.array_equal(rollout(first, seed=5), rollout(first, seed=6))


@pytest.mark.parametrize(
    ("obs", "keys"),
    [
        ("state", {*STATES}),
        ("pixels", {"observation.state", *IMAGES}),
        ("state_pixels", {*STATES, *IMAGES}),
    ],
)
def test_obs_decides_what_a_policy_sees(obs: str, keys: set[str]) -> None:
    config = KochEnvConfig(obs=obs, image_height=64, image_width=80, renderer="painter", episode_length=5)
    assert set(env_to_policy_features(config)) == keys | {"action"}
    vector = make_env(config, n_envs=2)["koch"][0]
    try:
        observation, _ = vector.reset(seed=[3, 4])
        assert set(preprocess_observation(observation)) == keys  # and nothing more
        assert list(vector.call("task_description")) == ["Lift the red cube."] * 2
        assert list(vector.call("task")) == ["lift"] * 2
        assert vector.call("_max_episode_steps")[0] == 5
        assert vector.call("render")[0].shape == (240, 320, 3)
    finally:
        vector.close()


def test_success_ends_the_episode_and_pays() -> None:
    env = KochEnv("lift")
    env.reset(seed=0)
    expert = make_expert("lift")
    rewards = []
    for _ in range(100):
        _, reward, terminated, _, info = env.step(expert.act(env.world).astype(np.float32))
        rewards.append(reward)
        assert info["is_success"] is terminated
        if terminated:
            break
    assert terminated
    assert rewards[-1] == 1.0
    assert sum(rewards) == 1.0


@pytest.mark.parametrize("task", TASKS)
def test_dense_reward_grows_towards_success(task: str) -> None:
    env = KochEnv(task, reward="dense")
    env.reset(seed=1)
    expert = make_expert(task)
    rewards = []
    terminated = False
    while not terminated and len(rewards) < 150:
        _, reward, terminated, _, _ = env.step(expert.act(env.world).astype(np.float32))
        rewards.append(reward)
    assert terminated
    assert all(0 <= reward <= 2 for reward in rewards)
    assert rewards[-2] > rewards[0] + 0.2


def test_joints_are_reported_in_servo_steps() -> None:
    env = KochEnv()
    seen = rollout(env, seed=2)[:, 0]  # shoulder_pan: 4096 ticks are 200 units
    ticks = seen / (200 / 4096)
    np.testing.assert_allclose(ticks, np.rint(ticks), atol=1e-3)


def test_wild_actions_are_clipped_and_nan_is_refused() -> None:
    env = KochEnv()
    env.reset(seed=0)
    observation, *_ = env.step(np.full(6, 1e6, dtype=np.float32))
    assert env.observation_space.contains(observation)
    with pytest.raises(ValueError, match="finite"):
        env.step(np.full(6, np.nan, dtype=np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env.task=lfit"], "`task` is 'lfit'; the Koch environment has reach, lift, place"),
        (["--env.obs=depth"], "`obs` is 'depth'; choose one of state, pixels, state_pixels"),
        (["--env.reward=big"], "`reward` is 'big'; choose one of sparse, dense"),
        (["--env.renderer=vulkan"], "`renderer` is 'vulkan'; choose one of auto, mujoco, painter"),
        (["--env.fps=50"], "`fps` is 50"),
        (["--env.episode_length=0"], "`episode_length` is 0; give at least 1"),
        (["--env.depth=true"], "`depth` is true, but `obs` is 'state', which has no cameras; choose `obs`"),
        (["--env.region.y_max_m=0.5"], "the arm grasps from"),
    ],
)
def test_bad_option_is_one_clear_line(arguments: list[str], message: str) -> None:
    with pytest.raises(DecodingError) as caught:
        draccus.parse(Options, args=["--env.type=koch", *arguments])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_renderer_of_a_policy_with_cameras_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOCH_RENDERER", "painter")
    assert KochEnvConfig(obs="pixels").renderer == "painter"
    assert KochEnvConfig(obs="state").renderer == "auto"


def test_registered_under_its_gym_id() -> None:
    env = gym.make(GYM_ID, task="reach")
    assert env.unwrapped.task == "reach"
    assert env.unwrapped._max_episode_steps == 150
    env.close()


@pytest.mark.slow
def test_plugin_import_is_light() -> None:
    code = (
        "import sys, lerobot.envs.configs\n"
        "import lerobot_ext.plugins\n"
        "lerobot_ext.plugins.load_all = lambda: None  # this plugin's own cost, not the others'\n"
        "before = set(sys.modules)\n"
        "import lerobot_env_koch\n"
        "from lerobot_env_koch.demos import command\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new & {'mujoco', 'cv2', 'zmq', 'datasets', 'serial', 'dynamixel_sdk', 'rich'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("[]")
