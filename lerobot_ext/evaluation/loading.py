# SPDX-License-Identifier: Apache-2.0
"""Loads a checkpoint with its processors, as the stock rollout does, and opens a dataset for reading."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lerobot_ext.cli.command import CommandError
from lerobot_ext.doctor.findings import Finding
from lerobot_ext.plugins import describe_error

if TYPE_CHECKING:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

_PROCESSORS: Final = ("policy_preprocessor.json", "policy_postprocessor.json")


@dataclass(frozen=True)
class Loaded:
    """A policy that can run.

    Args:
        name (`str`): How the user named it.
        folder (`Path`): Of the checkpoint.
        policy: A LeRobot policy in evaluation mode, on its device.
        preprocessor, postprocessor: Its pipelines.
        notes (`list[Finding]`): What is worth knowing about how it fits the dataset.
    """

    name: str
    folder: Path
    policy: Any
    preprocessor: Any
    postprocessor: Any
    notes: list[Finding]

    @property
    def config(self) -> Any:
        """Its configuration."""
        return self.policy.config


def read_dataset_options(words: Sequence[str]) -> Any:
    """LeRobot's `DatasetConfig` from `--dataset.…` options.

    Raises:
        CommandError: One of them is unknown or has a bad value.
    """
    import draccus
    from lerobot.configs.default import DatasetConfig

    args = [f"--{word.removeprefix('--dataset.')}" for word in words]
    if not any(word.startswith("--repo_id") for word in args):
        raise CommandError("there is no dataset", "say --dataset.repo_id=user/data, and --dataset.root=DIR")
    with options_of("--dataset"):
        return draccus.parse(DatasetConfig, args=args)


@contextmanager
def options_of(what: str) -> Iterator[None]:
    """One line instead of the pages of usage with which LeRobot's parser ends a process."""
    import draccus

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            yield
    except SystemExit:
        lines = said.getvalue().strip().splitlines()
        reason = lines[-1].partition("error: ")[2] or lines[-1] if lines else "LeRobot's parser refused them"
    except (ValueError, TypeError, draccus.utils.DraccusException) as error:
        reason = describe_error(error)
    else:
        return
    raise CommandError(
        f"the {what} options cannot be read: {reason}", "`lerobot-train --policy.type=… --help` explains them"
    )


def open_dataset(config: Any, episodes: list[int] | None, tolerance_s: float = 1e-4) -> LeRobotDataset:
    """Open a dataset for single frames: no time windows, no augmentation, pictures as the robot gives them.

    Args:
        config: LeRobot's `DatasetConfig`.
        episodes (`list[int]`, *optional*): Only these; all by default.
        tolerance_s (`float`, *optional*, defaults to `1e-4`): LeRobot's, of video timestamps.

    Raises:
        CommandError: It cannot be opened.
    """
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    if config.streaming:
        raise CommandError(
            "--dataset.streaming=true has no order of frames to replay",
            "leave it out: frames are read from disk",
        )
    try:
        return LeRobotDataset(
            config.repo_id,
            root=config.root,
            episodes=episodes,
            revision=config.revision,
            video_backend=config.video_backend,
            depth_output_unit=config.depth_output_unit,
            tolerance_s=tolerance_s,
        )
    except Exception as error:
        raise _unreadable(config, error) from error


def read_metadata(config: Any) -> Any:
    """The metadata of a dataset, without its frames.

    Raises:
        CommandError: There is none, or it cannot be read.
    """
    from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata

    if config.root is not None:
        from lerobot_ext.doctor.dataset import find_dataset

        find_dataset(config.repo_id, config.root)
    try:
        return LeRobotDatasetMetadata(config.repo_id, root=config.root, revision=config.revision)
    except Exception as error:
        raise _unreadable(config, error) from error


def _unreadable(config: Any, error: Exception) -> CommandError:
    where = f" --dataset.root={config.root}" if config.root else ""
    return CommandError(
        f"dataset {config.repo_id} cannot be opened: {describe_error(error)}",
        f"`lerobot-ext doctor --dataset.repo_id={config.repo_id}{where}` says what is wrong with it",
    )


def load_policy(
    name: str,
    features: Mapping[str, Any],
    overrides: Sequence[str] = (),
    rename_map: Mapping[str, str] | None = None,
) -> Loaded:
    """Load a checkpoint for a dataset with these features.

    Args:
        name (`str`): A folder, or user/repo in the cache of the Hub.
        features (`Mapping`): Of the dataset, as in its `info.json`.
        overrides (`Sequence[str]`, *optional*): `--n_action_steps=8` and the like, for the configuration.
        rename_map (`Mapping[str, str]`, *optional*): The dataset's names to the policy's.

    Raises:
        CommandError: It is not there, cannot be loaded, or does not fit the dataset.
    """
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies import get_policy_class, make_pre_post_processors

    from lerobot_ext.doctor.checkpoint import find_checkpoint

    folder = find_checkpoint(name)
    missing = [file for file in _PROCESSORS if not (folder / file).is_file()]
    if missing:
        raise CommandError(
            f"{name} lacks {' and '.join(missing)}",
            f"`lerobot-ext doctor --policy.path={name}` says what to do",
        )
    notes = check_fit(name, folder, features, rename_map)
    with options_of("--policy"):
        config = PreTrainedConfig.from_pretrained(folder, cli_overrides=list(overrides))
    if getattr(config, "use_peft", False):
        raise CommandError(f"{name} is a PEFT adapter", "merge it into its base model first")
    config.pretrained_path = folder
    device = str(config.device)
    try:
        policy = get_policy_class(config.type).from_pretrained(folder, config=config).to(device).eval()
        step_overrides: dict[str, Any] = {"device_processor": {"device": device}}
        if rename_map:
            step_overrides["rename_observations_processor"] = {"rename_map": dict(rename_map)}
        before, after = make_pre_post_processors(
            config, pretrained_path=str(folder), preprocessor_overrides=step_overrides
        )
    except CommandError:
        raise
    except Exception as error:
        raise CommandError(
            f"{name} cannot be loaded: {describe_error(error)}",
            f"`lerobot-ext doctor --policy.path={name}` examines it",
        ) from error
    return Loaded(name, folder, policy, before, after, notes)


def check_fit(
    name: str, folder: Path, features: Mapping[str, Any], rename_map: Mapping[str, str] | None
) -> list[Finding]:
    """Refuse a checkpoint that the dataset does not fit.

    Returns:
        `list[Finding]`: Notes.

    Raises:
        CommandError: The first problem, with its remedy, and how many more there are.
    """
    from lerobot_ext.doctor.fit import about_features
    from lerobot_ext.doctor.fit_child import look

    renamed = {(rename_map or {}).get(key, key): feature for key, feature in features.items()}
    seen = look({"folder": str(folder), "type": "", "features": renamed})
    if seen["error"]:
        raise CommandError(
            f"{name}: {seen['error']}", f"`lerobot-ext doctor --policy.path={name}` examines it"
        )
    findings = about_features(seen, renamed, name)
    problems = [finding for finding in findings if finding.level == "problem"]
    if problems:
        first, more = problems[0], f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise CommandError(
            f"{name} does not fit the dataset: {first.subject}: {first.message}{more}", first.remedy
        )
    return findings


def read_rename_map(text: str) -> dict[str, str]:
    """A rename map from its JSON text, as `lerobot-train --rename_map` takes it.

    Raises:
        CommandError: It is no JSON object of texts.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise CommandError(
            f"--rename_map={text} is no JSON object of names",
            'write --rename_map=\'{"observation.images.top": "observation.images.front"}\'',
        )
    return found
