# SPDX-License-Identifier: Apache-2.0
"""The policy that is asked about: its configuration, what a batch of its holds, and the policy itself."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from lerobot_ext.cli.command import CommandError
from lerobot_ext.evaluation.loading import options_of, read_dataset_options, read_metadata
from lerobot_ext.plugins import describe_error

_SAMPLES: Final = 2
"""Of the batch that goes through the preprocessor, for the shapes behind it."""


@dataclass(frozen=True)
class Robot:
    """A made-up robot, where there is neither dataset nor checkpoint.

    Args:
        state (`int`), action (`int`): Widths of `observation.state` and `action`.
        cameras (`int`): How many.
        height (`int`), width (`int`): Of each camera's pictures.
    """

    state: int = 6
    action: int = 6
    cameras: int = 2
    height: int = 480
    width: int = 640


@dataclass(frozen=True)
class Subject:
    """What is asked about.

    Args:
        config: The policy's configuration, on the CPU, with features.
        meta: A dataset's metadata: the user's, or that of a made-up one.
        samples (`Mapping[str, Any]`): A batch of two, as `policy.forward` receives it.
        notes (`tuple[str, ...]`): What was assumed.
        lora_rank (`int`): Of adapters put into the policy, which is frozen then; 0 for none.
    """

    config: Any
    meta: Any
    samples: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    lora_rank: int = 0
    _folders: tuple[Any, ...] = field(default=(), repr=False)

    def batch(self, size: int) -> dict[str, Any]:
        """A batch of so many samples; of real tensors, or of fake ones where those are made."""
        return {key: _repeated(value, size) for key, value in self.samples.items()}

    def build(self) -> nn.Module:
        """The policy with random weights, in training mode; without values where tensors are fake.

        Raises:
            CommandError: It cannot be made.
        """
        from lerobot.policies import get_policy_class

        try:
            with _quiet():
                policy = get_policy_class(self.config.type)(
                    config=self.config, dataset_stats=self.meta.stats, dataset_meta=self.meta
                )
                policy.to(self.config.device)
                if self.lora_rank:
                    policy = _adapted(policy, self.lora_rank)
        except Exception as error:
            raise CommandError(
                f"policy {self.config.type} cannot be made: {describe_error(error)}",
                "`lerobot-ext inspect-batch` with the same options and a dataset shows where",
            ) from error
        policy.train()
        made: nn.Module = policy
        return made

    def changed(self, values: Mapping[str, Any]) -> Subject:
        """The same with other values in its configuration, by their names behind `--policy.`.

        Raises:
            CommandError: They do not go with the others.
        """
        config = copy.deepcopy(self.config)
        for name, value in values.items():
            *owners, own = name.split(".")
            setattr(reduce(getattr, owners, config), own, value)
        try:
            with _quiet():
                config.__post_init__()
        except ValueError as error:
            raise CommandError(str(error), "leave it as it is") from error
        return replace(self, config=config)


def open_subject(words: Sequence[str], robot: Robot) -> Subject:
    """Read the options.

    Args:
        words (`Sequence[str]`): `--policy.…` and `--dataset.…` options of `lerobot-train`.
        robot (`Robot`): The features of a new policy without a dataset.

    Raises:
        CommandError: They name no policy, or one that cannot be read, or does not fit the dataset.
    """
    from lerobot.utils.import_utils import register_third_party_plugins

    importlib.import_module("lerobot.policies")  # registers the stock ones
    register_third_party_plugins()
    config, folder = _read_config([word for word in words if word.startswith("--policy.")])
    dataset = [word for word in words if word.startswith("--dataset.")]
    notes = []
    folders: tuple[Any, ...] = ()
    if dataset:
        meta = read_metadata(read_dataset_options(dataset))
        if folder is None:
            _take_features(config, meta.features)
    else:
        if not config.output_features:
            notes.append(
                f"features of a made-up robot: {robot.cameras} cameras of {robot.height}x{robot.width}, "
                f"state {robot.state}, action {robot.action}"
            )
            _make_features(config, robot)
        folders = (tempfile.TemporaryDirectory(ignore_cleanup_errors=True),)
        meta = _made_up(config, Path(folders[0].name))
    for one in _parts(config):
        if getattr(one, "pretrained_backbone_weights", None) is not None:
            one.pretrained_backbone_weights = None  # would be downloaded; random ones are as large
    try:
        with _quiet():
            config.validate_features()
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"policy {config.type} does not take these features: {describe_error(error)}",
            "name your data with --dataset.repo_id, or other sizes with --cameras, --state, --action",
        ) from error
    samples, note = _samples(config, meta, folder)
    return Subject(config, meta, samples, (*notes, *([note] if note else [])), _folders=folders)


def _read_config(words: list[str]) -> tuple[Any, Path | None]:
    """The configuration, and the folder of the checkpoint it is from."""
    import draccus
    from lerobot.configs import PreTrainedConfig

    from lerobot_ext.doctor.checkpoint import find_checkpoint

    def without(names: tuple[str, ...]) -> list[str]:
        kept = [word for word in words if not word.startswith(tuple(f"--policy.{name}=" for name in names))]
        return [f"--{word.removeprefix('--policy.')}" for word in kept]

    def value(name: str) -> str:
        found = [word.partition("=")[2] for word in words if word.startswith(f"--policy.{name}=")]
        return found[-1] if found else ""

    path, kind = value("path"), value("type")
    if bool(path) == bool(kind):
        raise CommandError(
            "name one policy", "say --policy.path=DIR for a checkpoint, or --policy.type=act for a new one"
        )
    # Fake tensors are on the CPU, and pushing is for trainings.
    fixed = ["--device=cpu", "--push_to_hub=false"]
    with options_of("--policy"), _quiet():
        if path:
            folder = find_checkpoint(path)
            config = PreTrainedConfig.from_pretrained(
                folder, cli_overrides=[*without(("path", "device", "push_to_hub")), *fixed]
            )
            if getattr(config, "use_peft", False):
                raise CommandError(f"{path} is a PEFT adapter", "ask about the base policy, with --lora R")
            return config, folder
        try:
            chosen = PreTrainedConfig.get_choice_class(kind)
        except KeyError:
            known = ", ".join(sorted(PreTrainedConfig.get_known_choices()))
            raise CommandError(f"there is no policy {kind!r} here", f"known are: {known}") from None
        return draccus.parse(chosen, args=[*without(("type", "device", "push_to_hub")), *fixed]), None


def _parts(config: Any) -> list[Any]:
    """The configurations of a policy: its own, and that of another policy which is its actor."""
    return [one for one in (config, getattr(config, "actor", None)) if one is not None]


def _take_features(config: Any, features: Any) -> None:
    """Fill in a dataset's, as `make_policy` does."""
    from lerobot.configs import FeatureType
    from lerobot.utils.feature_utils import dataset_to_policy_features

    found = dataset_to_policy_features(features)
    config.output_features = {name: one for name, one in found.items() if one.type is FeatureType.ACTION}
    if not config.input_features:
        config.input_features = {
            name: one for name, one in found.items() if name not in config.output_features
        }


def _make_features(config: Any, robot: Robot) -> None:
    from lerobot_ext.testing.contracts.synthetic import synthetic_features

    made = synthetic_features(robot.state, robot.action, [(robot.height, robot.width)] * robot.cameras)
    config.output_features = made["output_features"]
    config.input_features = config.input_features or made["input_features"]


def _made_up(config: Any, folder: Path) -> Any:
    from lerobot_ext.testing.contracts.synthetic import synthetic_metadata

    return synthetic_metadata({**config.input_features, **config.output_features}, folder / "data")


def _samples(config: Any, meta: Any, folder: Path | None) -> tuple[dict[str, Any], str]:
    """A small batch behind the preprocessor, and what had to be assumed."""
    from lerobot.policies import make_pre_post_processors
    from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS

    from lerobot_ext.testing.contracts.synthetic import synthetic_batch, synthetic_stats

    features = {**config.input_features, **config.output_features}
    batch = synthetic_batch(config, synthetic_stats(features), _SAMPLES)
    try:
        with _quiet():
            before, _ = make_pre_post_processors(
                config,
                pretrained_path=str(folder) if folder else None,
                dataset_stats=meta.stats,
                **({"preprocessor_overrides": {"device_processor": {"device": "cpu"}}} if folder else {}),
            )
            return dict(before(dict(batch))), ""
    except Exception as error:  # noqa: BLE001 - a tokenizer that is not on this machine, mostly
        note = f"its preprocessor cannot run here ({describe_error(error)[:160]})"
    length = max(getattr(one, "tokenizer_max_length", None) or 0 for one in _parts(config))
    if length:
        batch[OBS_LANGUAGE_TOKENS] = torch.zeros(_SAMPLES, length, dtype=torch.long)
        batch[OBS_LANGUAGE_ATTENTION_MASK] = torch.ones(_SAMPLES, length, dtype=torch.bool)
        return batch, f"{note}; the batch is the dataset's with {length} tokens a sample"
    return batch, f"{note}; the batch is the dataset's"


def _repeated(value: Any, size: int) -> Any:
    """The first sample so many times; what is no column of the batch as it is."""
    if isinstance(value, torch.Tensor) and value.ndim and len(value) == _SAMPLES:
        # Made anew, not expanded: each sample has its own memory. Fake tensors come of this in a fake mode.
        return torch.zeros((size, *value.shape[1:]), dtype=value.dtype)
    if isinstance(value, list) and len(value) == _SAMPLES:
        return [value[0]] * size
    return value


def _adapted(policy: Any, rank: int) -> Any:
    """The policy, frozen, with LoRA adapters where `lerobot-train --peft.r=…` puts them.

    Raises:
        ValueError: The policy names no targets.
    """
    from peft import LoraConfig, get_peft_model

    targets = policy._get_default_peft_targets()
    if not targets:
        raise ValueError(f"policy {policy.config.type} names no default targets for PEFT")
    for parameter in policy.parameters():
        parameter.requires_grad_(False)
    return get_peft_model(policy, LoraConfig(r=rank, **targets))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the greetings that policies print, and LeRobot's warnings about devices."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
