# SPDX-License-Identifier: Apache-2.0
"""`EnvContract`: what `lerobot-eval` and `lerobot-train` rely on in an environment.

```python
class TestMyEnv(EnvContract):
    def make_config(self):
        return MyEnvConfig(task="push", episode_length=20)
```

Short episodes keep it quick: several rules play one to its end.
"""

import warnings
from collections.abc import Sequence
from typing import Any

from lerobot_ext.plugins import describe_error
from lerobot_ext.testing.contract import broken, rule, skip
from lerobot_ext.testing.contracts.configured import ConfiguredContract

N_ENVS = 2
SEEDS = [3, 4]
_NO_GRAPHICS = ("OpenGL", "EGL", "GLFW", "GLX", "display")


class EnvContract(ConfiguredContract):
    """Rules for environments; override `make_config`."""

    subject = "env"
    registry = ("lerobot.envs.configs", "EnvConfig")

    def actions(self, env: Any, n_steps: int) -> Sequence[Any]:
        """Actions for the vector environment `env`, the same ones on each call: (n_envs, action) each."""
        env.action_space.seed(7)
        return [env.action_space.sample() for _ in range(n_steps)]

    def n_steps(self) -> int:
        """How many steps rules take that need not play an episode to its end."""
        return 5

    # Helpers

    def build_once(self) -> object:
        """See `ConfiguredContract.build_once`."""
        return self.make_env()

    def make_env(self, *, use_async: bool = False) -> Any:
        """The first vector environment that LeRobot makes from `make_config`; closed when the rule ends."""
        from lerobot.envs.factory import make_env
        from lerobot.envs.utils import close_envs

        made = make_env(self.make_config(), n_envs=N_ENVS, use_async_envs=use_async)
        self.at_end(lambda: close_envs(made))
        return next(iter(next(iter(made.values())).values()))

    def reset(self, env: Any) -> tuple[Any, Any]:
        """Reset as `lerobot-eval` does."""
        from lerobot.envs.utils import NEW_ROLLOUT_OPTION

        observation, info = env.reset(seed=SEEDS, options={NEW_ROLLOUT_OPTION: True})
        return observation, info

    def _played(self, *, use_async: bool) -> list[Any]:
        """A few steps from fixed seeds with fixed actions: observations and rewards, flattened."""
        env = self.make_env(use_async=use_async)
        seen: list[Any] = list(_leaves(self.reset(env)[0]))
        for action in self.actions(env, self.n_steps()):
            observation, reward, *_ = env.step(action)
            seen += [*_leaves(observation), reward.copy()]
        return seen

    # The config

    @rule(
        remedy="map every key of `features` in `features_map`, `action` to `action`, the others to "
        "`observation.…`",
        needs=["config-builds"],
    )
    def test_features_are_mapped(self) -> None:
        """`features` names an action and observations, and `features_map` gives each its policy name."""
        from lerobot.configs import FeatureType
        from lerobot.utils.constants import ACTION

        config = self.make_config()
        for key, feature in config.features.items():
            name = config.features_map.get(key)
            if name is None:
                broken(f"`features_map` lacks {key!r}")
            is_action = feature.type is FeatureType.ACTION
            if is_action != (name == ACTION) or not (is_action or name.startswith("observation.")):
                broken(f"{key!r} of type {feature.type.value} is mapped to {name!r}")
        kinds = {feature.type for feature in config.features.values()}
        if FeatureType.ACTION not in kinds or len(kinds) < 2:
            broken(f"`features` has {sorted(kind.value for kind in kinds) or 'nothing'}")

    # The environment

    @rule(
        remedy="register the gymnasium id when the plugin is imported and return it from `gym_id`, or "
        "override `create_envs`; it returns {suite: {task_id: vector environment}}",
        needs=["requirements-are-installed"],
    )
    def test_makes_a_vector_env(self) -> None:
        """LeRobot's `make_env` makes a vector environment with as many environments as asked for."""
        env = self.make_env()
        if getattr(env, "num_envs", None) != N_ENVS:
            broken(f"asked for {N_ENVS}, got {getattr(env, 'num_envs', type(env).__name__)}")

    @rule(
        remedy="take `seed` and `options` in `reset(self, *, seed=None, options=None)`, and ignore options "
        "that you do not know",
        needs=["makes-a-vector-env"],
    )
    def test_resets_as_lerobot_resets(self) -> None:
        """`reset` takes a seed and LeRobot's own option."""
        self.reset(self.make_env())

    @rule(
        remedy="mend what gymnasium's checker says; `gymnasium.utils.env_checker.check_env` shows more",
        needs=["resets-as-lerobot-resets"],
    )
    def test_passes_the_checker_of_gymnasium(self) -> None:
        """A single environment passes gymnasium's own checker."""
        from gymnasium.utils.env_checker import check_env

        env = self.make_env()
        singles = getattr(env, "envs", None)
        if not singles:
            skip(f"{type(env).__name__} does not show its single environments")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_env(singles[0].unwrapped, skip_render_check=True)

    @rule(
        remedy="emit every observation that `features` names, under `pixels`, `agent_pos`, "
        "`environment_state` or its own name, in the declared shape",
        needs=["resets-as-lerobot-resets", "features-are-mapped"],
    )
    def test_observations_cover_the_features(self) -> None:
        """What the environment emits is, after LeRobot's conversion, what a policy is built for."""
        import torch
        from lerobot.envs.utils import env_to_policy_features, preprocess_observation
        from lerobot.utils.constants import ACTION

        config = self.make_config()
        before, _ = config.get_env_processors()
        batch = before(preprocess_observation(self.reset(self.make_env())[0]))
        for name, feature in env_to_policy_features(config).items():
            if name == ACTION:
                continue
            if name not in batch:
                broken(f"`{name}` is declared, but never emitted; emitted are {sorted(batch)}")
            shape = (N_ENVS, *feature.shape)
            if tuple(batch[name].shape) != shape:
                broken(f"`{name}` is {tuple(batch[name].shape)}, a policy is built for {shape}")
            if not torch.isfinite(batch[name]).all():
                broken(f"`{name}` is not finite")

    @rule(
        remedy="give the action feature the shape of the action space, a Box with one axis",
        needs=["makes-a-vector-env", "features-are-mapped"],
    )
    def test_action_space_fits_its_feature(self) -> None:
        """The action space has the shape that `features` declares for the action."""
        from lerobot.configs import FeatureType

        env = self.make_env()
        declared = next(f.shape for f in self.make_config().features.values() if f.type is FeatureType.ACTION)
        if env.single_action_space.shape != tuple(declared):
            broken(f"the space is {env.single_action_space.shape}, declared is {tuple(declared)}")

    @rule(
        remedy="set `self._max_episode_steps` in the environment",
        needs=["makes-a-vector-env"],
    )
    def test_tells_its_length(self) -> None:
        """Each environment has `_max_episode_steps`: `lerobot-eval` plays that long."""
        lengths = self.make_env().call("_max_episode_steps")
        if not all(isinstance(n, int) and n > 0 for n in lengths):
            broken(f"`_max_episode_steps` is {lengths}")

    @rule(
        remedy="set `metadata = {'render_modes': ['rgb_array'], 'render_fps': FPS}` on the class, with the "
        "config's `fps`",
        needs=["makes-a-vector-env"],
    )
    def test_tells_its_frame_rate(self) -> None:
        """`metadata["render_fps"]` is the config's `fps`: videos and recordings are written with it."""
        rate, fps = self.make_env().metadata.get("render_fps"), self.make_config().fps
        if rate is None:
            broken("`metadata` has no `render_fps`")
        if rate != fps:
            broken(f"`render_fps` is {rate}, the config's `fps` {fps}")

    @rule(
        remedy="set attributes `task` and `task_description` to a text in the environment: without them an "
        "asynchronous vector environment ends `lerobot-eval`",
        needs=["makes-a-vector-env"],
    )
    def test_names_its_task(self) -> None:
        """Each environment has a text `task` and `task_description`."""
        env = self.make_env()
        for name in ("task", "task_description"):
            try:
                found = list(env.call(name))
            except AttributeError:
                broken(f"it has no `{name}`")
            if not all(isinstance(text, str) and text for text in found):
                broken(f"`{name}` is {found}")

    @rule(
        remedy="return a (height, width, 3) uint8 picture from `render()`, with `render_mode='rgb_array'`",
        needs=["resets-as-lerobot-resets"],
    )
    def test_renders_pictures(self) -> None:
        """`render()` gives a picture, (height, width, 3) uint8: `lerobot-eval` writes videos of them."""
        import numpy as np

        env = self.make_env()
        self.reset(env)
        try:
            picture = env.call("render")[0]
        except Exception as error:  # the environment's own, whatever it is
            if any(word in str(error) for word in _NO_GRAPHICS):
                skip(f"this machine cannot draw: {describe_error(error)}")
            raise
        if not isinstance(picture, np.ndarray):
            broken(f"`render()` returns {type(picture).__name__}")
        if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8:
            broken(f"`render()` returns {picture.shape} {picture.dtype}")

    @rule(
        remedy="draw every random number from `self.np_random`, after `super().reset(seed=seed)`",
        needs=["resets-as-lerobot-resets"],
    )
    def test_repeats_itself_with_a_seed(self) -> None:
        """The same seed and actions give the same observations and rewards, bit for bit."""
        import numpy as np

        first, second = (self._played(use_async=False) for _ in range(2))
        if len(first) != len(second) or not all(map(np.array_equal, first, second)):
            broken("two runs from the same seeds differ")

    @rule(
        remedy="terminate or truncate after `_max_episode_steps` steps at the latest",
        needs=["tells-its-length", "resets-as-lerobot-resets"],
    )
    def test_ends_within_its_length(self) -> None:
        """An episode ends after `_max_episode_steps` steps at the latest."""
        env = self.make_env()
        self.reset(env)
        length = int(env.call("_max_episode_steps")[0])
        if self._play_to_the_end(env, length) is None:
            broken(f"it goes on after {length} steps")

    def _play_to_the_end(self, env: Any, length: int) -> Any:
        """What the step returned in which environment 0 ended; `None` when it never did."""
        for action in self.actions(env, length):
            returned = env.step(action)
            if returned[2][0] or returned[3][0]:
                return returned
        return None

    @rule(
        remedy="put `is_success` (True or False) into the info of every step",
        needs=["ends-within-its-length"],
    )
    def test_reports_success(self) -> None:
        """The info of an episode's last step says `is_success`: `lerobot-eval` counts it, else all fail."""
        env = self.make_env()
        self.reset(env)
        returned = self._play_to_the_end(env, int(env.call("_max_episode_steps")[0]))
        info = returned[4]
        last = info.get("final_info", info)
        if not isinstance(last, dict) or "is_success" not in last:
            broken(f"the last info has {sorted(last) if isinstance(last, dict) else last}")
        values = [bool(value) for value in last["is_success"]]
        if len(values) != N_ENVS:
            broken(f"`is_success` is {last['is_success']!r}")

    @rule(
        remedy="make `reset` set up everything that an episode uses",
        needs=["ends-within-its-length"],
    )
    def test_goes_on_after_an_episode(self) -> None:
        """After an episode's end the vector environment resets by itself and goes on."""
        env = self.make_env()
        self.reset(env)
        length = int(env.call("_max_episode_steps")[0])
        self._play_to_the_end(env, length)
        for action in self.actions(env, 2):
            observation = env.step(action)[0]
            if not env.observation_space.contains(observation):
                broken("the observation after the reset is not in its space")

    @rule(
        remedy="free in `close()` only what is there, so that it may be called twice",
        needs=["makes-a-vector-env"],
    )
    def test_closes_twice(self) -> None:
        """A single environment can be closed, again too."""
        env = self.make_env()
        singles = getattr(env, "envs", None)
        if not singles:
            skip(f"{type(env).__name__} does not show its single environments")
        for _ in range(2):
            singles[0].unwrapped.close()

    @rule(
        remedy="define config and environment at module level, so that a fresh process can import them, "
        "and register the gymnasium id in the module that holds the config",
        needs=["config-pickles", "repeats-itself-with-a-seed", "names-its-task"],
    )
    def test_runs_in_worker_processes(self) -> None:
        """In worker processes, as `lerobot-eval` runs it by default, it does the same as in this one."""
        import numpy as np

        here, there = self._played(use_async=False), self._played(use_async=True)
        if len(here) != len(there) or not all(map(np.array_equal, here, there)):
            broken("from the same seeds, the workers' observations or rewards differ")


def _leaves(observation: Any) -> list[Any]:
    """Copies of all arrays of an observation, in a fixed order."""
    if isinstance(observation, dict):
        return [leaf for key in sorted(observation) for leaf in _leaves(observation[key])]
    return [observation.copy()]
