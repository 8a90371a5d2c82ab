# SPDX-License-Identifier: Apache-2.0
"""Stock LeRobot trains, takes a held-out loss, evaluates in threads, acts: only training is augmented."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.processor import TransitionKey
from lerobot_robot_processors.steps.augment import AugmentStep
from stock_loop import LOOP, POLICY, train

pytestmark = pytest.mark.slow

SIZE = 32
TOP = "observation.images.top"


class PictureEnv(gym.Env):
    """A picture and two numbers, for three steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    task, task_description, _max_episode_steps = "look", "Look at the picture.", 3

    def __init__(self, render_mode="rgb_array"):
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Dict(
            {
                "pixels": gym.spaces.Dict({"top": gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)}),
                "agent_pos": gym.spaces.Box(-9, 9, (2,), np.float32),
            }
        )
        self.action_space = gym.spaces.Box(-9, 9, (2,), np.float32)

    def observe(self):
        return {
            "pixels": {"top": np.full((SIZE, SIZE, 3), 90, np.uint8)},
            "agent_pos": np.zeros(2, np.float32),
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_steps = 0
        return self.observe(), {"is_success": False}

    def step(self, action):
        self.n_steps += 1
        return self.observe(), 0.0, False, self.n_steps >= 3, {"is_success": False}

    def render(self):
        return np.zeros((SIZE, SIZE, 3), np.uint8)


@EnvConfig.register_subclass("picture_env_of_a_test")
class PictureEnvConfig(EnvConfig):
    """Two tasks, so that LeRobot evaluates in threads."""

    def __init__(self):
        top, place = (
            PolicyFeature(FeatureType.VISUAL, (SIZE, SIZE, 3)),
            PolicyFeature(FeatureType.STATE, (2,)),
        )
        super().__init__(
            task="look",
            fps=10,
            features={
                "action": PolicyFeature(FeatureType.ACTION, (2,)),
                "pixels/top": top,
                "agent_pos": place,
            },
            features_map={"action": "action", "pixels/top": TOP, "agent_pos": "observation.state"},
            max_parallel_tasks=2,
        )

    @property
    def gym_kwargs(self):
        return {}

    def create_envs(self, n_envs, use_async_envs=False):
        return {"look": {task: gym.vector.SyncVectorEnv([PictureEnv] * n_envs) for task in range(2)}}


def write_pictures(root):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": None},
        TOP: {"dtype": "image", "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": (2,), "names": None},
    }
    dataset = LeRobotDataset.create("user/pictures", 10, features, root=root, use_videos=False)
    drawn = np.random.default_rng(0)
    for _ in range(4):
        for _ in range(6):
            dataset.add_frame(
                {
                    "observation.state": drawn.normal(size=2).astype(np.float32),
                    "action": drawn.normal(size=2).astype(np.float32),
                    TOP: drawn.integers(60, 120, (SIZE, SIZE, 3), dtype=np.uint8),
                    "task": "look",
                }
            )
        dataset.save_episode()
    dataset.finalize()
    return ["--dataset.repo_id=user/pictures", f"--dataset.root={root}"]


def act_once_as_rollout_does(policy, before, after):
    from lerobot.rollout.inference.sync import SyncInferenceEngine

    features = {"action": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]}}
    engine = SyncInferenceEngine(policy, before, after, features, ["a", "b"], "look", "cpu", "toy")
    engine.reset()
    picture = np.full((SIZE, SIZE, 3), 90, np.uint8)
    return engine.get_action({"observation.state": np.zeros(2, np.float32), TOP: picture})


def test_only_the_training_step_is_augmented(tmp_path, monkeypatch):
    from lerobot.scripts import lerobot_train

    words = write_pictures(tmp_path / "data")
    held, calls = {}, []
    make_policy, make_processors = lerobot_train.make_policy, lerobot_train.make_pre_post_processors

    def keep_policy(*given, **named):
        held["policy"] = make_policy(*given, **named)
        return held["policy"]

    def with_augmentation(*given, **named):
        held["pipelines"] = before, after = make_processors(*given, **named)
        before.steps = [AugmentStep(brightness=0.5, shift_px=3), *before.steps]
        return before, after

    run = AugmentStep.__call__

    def watched(step, transition):
        changed = run(step, transition)
        was_changed = not torch.equal(
            transition[TransitionKey.OBSERVATION][TOP], changed[TransitionKey.OBSERVATION][TOP]
        )
        has_action = transition[TransitionKey.ACTION] is not None
        calls.append((held["policy"].training, has_action, torch.is_grad_enabled(), was_changed))
        return changed

    monkeypatch.setattr(lerobot_train, "make_policy", keep_policy)
    monkeypatch.setattr(lerobot_train, "make_pre_post_processors", with_augmentation)
    monkeypatch.setattr(AugmentStep, "__call__", watched)
    small = [*POLICY, *LOOP, "--policy.pretrained_backbone_weights=null", "--policy.n_action_steps=1"]
    run_words = ["--steps=2", "--dataset.eval_split=0.5", "--eval_steps=1", "--save_checkpoint=false"]
    evaluation = [
        "--env.type=picture_env_of_a_test",
        "--env_eval_freq=2",
        "--eval.n_episodes=1",
        "--eval.batch_size=1",
    ]
    train(monkeypatch, *words, *small, *run_words, *evaluation, f"--output_dir={tmp_path / 'run'}")

    training = [call for call in calls if call[0]]
    held_out = [call for call in calls if not call[0] and call[1]]
    in_environment = [call for call in calls if not call[0] and not call[1]]
    assert len(training) == 2
    assert len(held_out) >= 2
    assert len(in_environment) == 6  # two tasks of three steps
    # Each sign alone would be wrong once: the held-out loss has actions, the threads have gradients on.
    assert any(gradients for _, _, gradients, _ in in_environment)
    assert all(was_changed == is_training for is_training, _, _, was_changed in calls)

    calls.clear()
    held["policy"].eval()
    assert act_once_as_rollout_does(held["policy"], *held["pipelines"]).shape == (2,)
    assert [was_changed for *_, was_changed in calls] == [False]
