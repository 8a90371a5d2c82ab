# SPDX-License-Identifier: Apache-2.0
"""What the rules of `PolicyContract` share: factory method, hooks, LeRobot's way from batch to action.

`B` samples or robots, `T` actions of a chunk, `A` width of an action.
"""

import contextlib
import copy
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.utils import prepare_observation_for_inference
from torch import Tensor

from ..contract import Contract
from .synthetic import (
    TASK,
    Features,
    Stats,
    seed_everything,
    synthetic_batch,
    synthetic_features,
    synthetic_frame,
    synthetic_metadata,
    synthetic_observation,
    synthetic_stats,
)

# An episode of the rules that act: long enough to need a second chunk where chunks are short.
MAX_EPISODE_STEPS = 12


class PolicySubject(Contract):
    """The policy under test; see `PolicyContract`."""

    subject: ClassVar[str] = "policy"
    task: ClassVar[str] = TASK
    """The language instruction of every sample and robot."""
    untrained: ClassVar[Sequence[str]] = ()
    """Names of trainable parameters, as shell patterns, that one step on purpose does not reach."""
    _fresh: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._fresh = {}

    # ---- to override -------------------------------------------------------------------------------------

    def make_config(self) -> PreTrainedConfig:
        """The one thing to override: a config of your policy.

        Choose small dimensions, so that the contract takes seconds. Features may be left out: the contract
        then fills in `self.features()`, as LeRobot fills them in from a dataset.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `make_config`")

    def features(self, **sizes: Any) -> dict[str, Features]:
        """Features of the made-up robot; override them for a policy that needs others.

        Args:
            **sizes (`Any`): Arguments of `synthetic_features`, such as `action=5`.
        """
        return synthetic_features(**sizes)

    def bad_settings(self, config: PreTrainedConfig) -> Mapping[str, Any]:
        """Values by field that the config must refuse, each alone.

        By default one action step more than a chunk holds, where the config has both fields.
        """
        for length in ("chunk_size", "horizon"):
            if hasattr(config, length) and hasattr(config, "n_action_steps"):
                return {"n_action_steps": getattr(config, length) + 1}
        return {}

    def make_stats(self, config: PreTrainedConfig) -> Stats:
        """Statistics of the made-up dataset, as in `dataset.meta.stats`."""
        return synthetic_stats({**(config.input_features or {}), **(config.output_features or {})})

    def make_batch(self, config: PreTrainedConfig, size: int) -> dict[str, Any]:
        """A raw batch of `size` samples, as the DataLoader gives it to the preprocessor."""
        return synthetic_batch(config, self.make_stats(config), size, self.task)

    # ---- what the rules use --------------------------------------------------------------------------------

    def config(self, **sizes: Any) -> PreTrainedConfig:
        """A config on the CPU, with features.

        Args:
            **sizes (`Any`): When given, other features than the config's own: arguments of `features`.
        """
        with quiet():
            config = self.make_config()
        if not isinstance(config, PreTrainedConfig):
            raise TypeError(
                f"`make_config` returned {type(config).__name__}, which is no lerobot PreTrainedConfig"
            )
        config.device = "cpu"
        config.pretrained_path = None
        if sizes or not config.output_features:
            wanted = self.features(**sizes)
            config.output_features = wanted["output_features"]
            if sizes or not config.input_features:
                config.input_features = wanted["input_features"]
        return config

    def build(self, config: PreTrainedConfig, seed: int = 0) -> PreTrainedPolicy:
        """A policy made like `lerobot-train` makes it, with the statistics and metadata of a dataset."""
        metadata = self.metadata(config)
        seed_everything(seed)
        with quiet():
            policy = get_policy_class(config.type)(
                config=config, dataset_stats=metadata.stats, dataset_meta=metadata
            )
        policy.to(config.device)
        return policy

    def processors(self, config: PreTrainedConfig, stats: Stats | None = None) -> tuple[Any, Any]:
        """Preprocessor and postprocessor, made by LeRobot's factory."""
        with quiet():
            made: tuple[Any, Any] = make_pre_post_processors(
                config, dataset_stats=stats or self.make_stats(config)
            )
        return made

    def training_batch(self, config: PreTrainedConfig, size: int = 2) -> dict[str, Any]:
        """A batch as the policy's `forward` gets it: preprocessed."""
        before, _ = self.processors(config)
        batch: dict[str, Any] = before(self.make_batch(config, size))
        return batch

    def raw_observation(self, config: PreTrainedConfig, robots: int = 1, step: int = 0) -> dict[str, Any]:
        """Observations of several robots as `lerobot-eval` gives them to the preprocessor."""
        return synthetic_observation(config, self.make_stats(config), robots, step, self.task)

    def robot_observation(self, config: PreTrainedConfig, step: int = 0) -> dict[str, Any]:
        """One robot's observation as `lerobot-rollout` gives it to the preprocessor."""
        frame = synthetic_frame(config, self.make_stats(config), step)
        observation: dict[str, Any] = prepare_observation_for_inference(
            frame, torch.device("cpu"), self.task, "synthetic"
        )
        return observation

    def observation(self, config: PreTrainedConfig, robots: int = 1, step: int = 0) -> dict[str, Any]:
        """A preprocessed observation, as `select_action` gets it."""
        before, _ = self.processors(config)
        observation: dict[str, Any] = before(self.raw_observation(config, robots, step))
        # Postprocessed actions aside, a preprocessor fills the transition up with an empty action.
        return {key: value for key, value in observation.items() if value is not None}

    def chunk_observation(self, config: PreTrainedConfig, robots: int = 1) -> dict[str, Any]:
        """A preprocessed observation from which a policy plans a chunk without having acted before.

        That is one frame, (B, D), or all of `observation_delta_indices`, (B, S, D), for a policy that looks
        at more than one.
        """
        if config.observation_delta_indices is None or config.n_obs_steps == 1:
            return self.observation(config, robots)
        batch = self.training_batch(config, robots)
        return {k: v for k, v in batch.items() if k in (config.input_features or {}) or k == "task"}

    def chunk(self, policy: PreTrainedPolicy, robots: int = 1, seed: int = 5) -> Tensor:
        """An action chunk (B, T, A) of a policy in evaluation mode, from a known random state."""
        observation = self.chunk_observation(policy.config, robots)
        policy.eval()
        policy.reset()
        seed_everything(seed)
        with torch.no_grad():
            chunk: Tensor = policy.predict_action_chunk(observation)
        return chunk

    def episode(self, policy: PreTrainedPolicy, robots: int = 1, seed: int = 5) -> Tensor:
        """The actions (steps, B, A) of one episode, begun with `reset()` from a known random state."""
        before, _ = self.processors(policy.config)
        steps = min(int(getattr(policy.config, "n_action_steps", 1)) + 1, MAX_EPISODE_STEPS)
        policy.eval()
        policy.reset()
        seed_everything(seed)
        actions = []
        with torch.inference_mode():
            for step in range(steps):
                observation = before(self.raw_observation(policy.config, robots, step))
                actions.append(policy.select_action(observation).clone())
        return torch.stack(actions)

    def loss_and_gradients(
        self, config: PreTrainedConfig, batch: Mapping[str, Any], seed: int = 3
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and gradients by parameter of one training step of a newly built policy."""
        policy = self.build(config)
        policy.train()
        seed_everything(seed)
        loss, _ = policy.forward(copied(batch))
        loss.backward()
        gradients = {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
        return loss.detach(), gradients

    def save(self, policy: PreTrainedPolicy, folder: Path) -> None:
        """A checkpoint as `lerobot-train` writes it: policy and both processors."""
        with quiet():
            before, after = self.processors(policy.config)
            policy.save_pretrained(folder)
            before.save_pretrained(folder)
            after.save_pretrained(folder)

    def load(self, policy: PreTrainedPolicy, folder: Path, **kwargs: Any) -> PreTrainedPolicy:
        """The policy of a checkpoint, loaded in this process."""
        with quiet():
            return type(policy).from_pretrained(folder, **kwargs)

    def metadata(self, config: PreTrainedConfig) -> LeRobotDatasetMetadata:
        """The metadata of the made-up dataset."""
        features = {**(config.input_features or {}), **(config.output_features or {})}
        metadata = synthetic_metadata(features, self.new_folder() / "dataset")
        metadata.stats = self.make_stats(config)
        return metadata


def copied(batch: Mapping[str, Any]) -> dict[str, Any]:
    """`batch` with tensors of its own: a policy that changes its input then spoils no other rule."""
    return {k: v.clone() if isinstance(v, Tensor) else copy.copy(v) for k, v in batch.items()}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep LeRobot's chatter, such as `Loading weights from local directory`, out of a report."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
