# SPDX-License-Identifier: Apache-2.0
"""From the command line, or a run's last checkpoint, to LeRobot's configuration of a training."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import make_dataclass, replace
from pathlib import Path
from typing import Any

from lerobot.utils.constants import PRETRAINED_MODEL_DIR

from lerobot_ext.cli.command import CommandError
from lerobot_ext.evaluation.loading import options_of, read_dataset_options

from . import checkpoints
from .checkpoints import Progress
from .settings import MAY_CHANGE, OnlineSettings


class Plan:
    """A run that is to be built.

    Args:
        cfg: LeRobot's `TrainPipelineConfig`, with policy, environment and dataset.
        settings (`OnlineSettings`): Of the run.
        pretrained (`Path`): `pretrained_model` that it begins or goes on with.
        progress (`Progress`, *optional*): Of a resumed run.
    """

    def __init__(
        self, cfg: Any, settings: OnlineSettings, pretrained: Path, progress: Progress | None = None
    ) -> None:
        self.cfg, self.settings, self.pretrained, self.progress = cfg, settings, pretrained, progress

    @property
    def folder(self) -> Path:
        """Where the run's files go."""
        return Path(self.cfg.output_dir)


def fresh(words: Sequence[str], given: Mapping[str, Any], folder: Path | None) -> Plan:
    """A run from `--policy.…`, `--env.…` and `--dataset.…` options.

    Args:
        words (`Sequence[str]`): Those options.
        given (`Mapping`): Settings that were given.
        folder (`Path`, *optional*): `--output_dir`.

    Raises:
        CommandError: One is missing, unknown, or has a bad value.
    """
    from lerobot.configs import PreTrainedConfig
    from lerobot.configs.train import TrainPipelineConfig

    from lerobot_ext.doctor.checkpoint import find_checkpoint

    settings = _settings(given)
    of = {
        name: [word for word in words if word.startswith(f"--{name}.")]
        for name in ("policy", "env", "dataset")
    }
    path, overrides = _policy_path(of["policy"])
    pretrained = find_checkpoint(path)
    dataset = read_dataset_options(of["dataset"])
    if dataset.streaming:
        raise CommandError("--dataset.streaming=true cannot be drawn from at random", "leave it out")
    if isinstance(dataset.repo_id, list):
        raise CommandError("--dataset.repo_id names several datasets", "name one; merge them first")
    env = _env(of["env"])
    with options_of("--policy"):
        policy = PreTrainedConfig.from_pretrained(pretrained, cli_overrides=overrides)
    policy.pretrained_path = pretrained
    if not any(word.startswith("--policy.push_to_hub") for word in of["policy"]):
        policy.push_to_hub = False  # the checkpoint's own wish was about another run
    if policy.push_to_hub and not policy.repo_id:
        raise CommandError("--policy.push_to_hub=true needs a name", "say --policy.repo_id=user/name")
    if folder is None:
        now = datetime.datetime.now()
        folder = Path("outputs/online") / f"{now:%Y-%m-%d}/{now:%H-%M-%S}_{policy.type}_{env.type}"
    if folder.exists() and any(folder.iterdir()):
        raise CommandError(
            f"--output_dir={folder} is not empty", "name another, or add --resume=true to go on with that run"
        )
    cfg = TrainPipelineConfig(
        dataset=dataset,
        env=env,
        policy=policy,
        output_dir=folder,
        job_name=f"online_{env.type}_{policy.type}",
        seed=settings.seed,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        steps=settings.online_steps,
        save_freq=settings.save_freq,
        log_freq=settings.log_freq,
        optimizer=policy.get_optimizer_preset(),
    )
    return Plan(cfg, settings, pretrained)


def resumed(words: Sequence[str], given: Mapping[str, Any], folder: Path | None) -> Plan:
    """A run from its last checkpoint.

    Raises:
        CommandError: There is none, or an option would change what was done.
    """
    from lerobot.configs.train import TrainPipelineConfig

    if folder is None:
        raise CommandError("--resume=true needs a run", "name its --output_dir")
    fixed = [f"--{name}" for name in given if name not in MAY_CHANGE] + list(words)
    if fixed:
        raise CommandError(
            f"{fixed[0]} cannot be changed while a run is resumed",
            f"give --output_dir and --resume=true, and of the rest only --{' and --'.join(MAY_CHANGE)}",
        )
    checkpoint = checkpoints.latest(folder)
    settings, progress = checkpoints.read_state(checkpoint)
    settings = replace(settings, **given)
    pretrained = checkpoint / PRETRAINED_MODEL_DIR
    cfg = TrainPipelineConfig.from_pretrained(pretrained)
    cfg.policy.pretrained_path = pretrained
    cfg.output_dir, cfg.steps, cfg.num_workers = folder, settings.online_steps, settings.num_workers
    return Plan(cfg, settings, pretrained, progress)


def _settings(given: Mapping[str, Any]) -> OnlineSettings:
    try:
        return OnlineSettings(**given)
    except ValueError as error:
        raise CommandError(str(error), "`lerobot-ext train-online --help` explains it") from error


def _policy_path(words: Sequence[str]) -> tuple[str, list[str]]:
    """The checkpoint, and what is changed of its configuration."""
    paths = [word.partition("=")[2] for word in words if word.startswith("--policy.path=")]
    if len(paths) != 1 or not paths[0]:
        raise CommandError(
            "there is no policy to go on with",
            "say --policy.path=RUN/checkpoints/last/pretrained_model of a policy that learns from rewards",
        )
    return paths[0], [
        f"--{word.removeprefix('--policy.')}" for word in words if not word.startswith("--policy.path=")
    ]


def _env(words: Sequence[str]) -> Any:
    import draccus
    from lerobot.envs.configs import EnvConfig

    if not any(word.startswith("--env.type=") for word in words):
        raise CommandError("there is no environment", "say --env.type=koch --env.task=lift, for instance")
    # A registry of choices can only be parsed as a field of something.
    holder = make_dataclass("Environment", [("env", EnvConfig)])
    with options_of("--env"):
        return draccus.parse(holder, args=list(words)).env
