# SPDX-License-Identifier: Apache-2.0
"""Builds what an online run works with: policy, optimizer, prior data, environment, replay."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lerobot.utils.constants import REWARD
from lerobot.utils.random_utils import set_seed

from lerobot_ext.cli.command import CommandError
from lerobot_ext.offline_rl.labels import Episodes, read_episodes
from lerobot_ext.offline_rl.learner import why_not
from lerobot_ext.plugins import describe_error

from . import checkpoints
from .collecting import Pipelines
from .options import Plan
from .replay import Replay, Windows
from .replay_dataset import ReplayDataset
from .rewards import RewardRule, rule_of_episode
from .trainer import Parts

logger = logging.getLogger(__name__)

REPLAY = "replay"


@contextmanager
def build(plan: Plan) -> Iterator[Parts]:
    """Everything a run works with; environments are closed at the end.

    Raises:
        CommandError: The policy cannot learn online, or policy, data and environment do not fit.
    """
    from lerobot.envs.utils import close_envs

    _refuse_ranks()
    cfg, settings = plan.cfg, plan.settings
    set_seed(settings.seed)
    replay_root = plan.folder / REPLAY
    dataset = _open(cfg)
    prior = _prior_episodes(dataset)
    policy, optimizer, accelerator = _learner(plan, dataset)
    pipelines = _pipelines(plan, accelerator.device)
    replay = Replay(
        Windows.of(cfg.policy),
        prior,
        dataset.fps,
        {str(text): int(row["task_index"]) for text, row in dataset.meta.tasks.iterrows()},
        settings.replay_frames,
    )
    disk = ReplayDataset(
        replay_root,
        f"online/{plan.folder.name or 'replay'}",
        dataset.fps,
        dataset.meta.features,
        dataset.meta.robot_type,
    )
    disk.recover()
    made: list[Any] = []
    try:
        for count in (settings.n_envs, min(settings.eval_episodes, max(settings.n_envs, 10))):
            made.append(_make_env(cfg, count))
        env, eval_env = (_only(envs) for envs in made)
        _check_env(cfg, dataset, env)
        yield Parts(
            cfg, policy, optimizer, accelerator, pipelines, dataset, replay, disk, env, eval_env,
            _paid(accelerator.unwrap_model(policy), prior),
        )  # fmt: skip
    finally:
        for envs in made:
            close_envs(envs)


def _refuse_ranks() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise CommandError(
            "train-online runs in one process", "start it without `accelerate launch`; use --n_envs"
        )


def _open(cfg: Any) -> Any:
    """The prior data with the policy's windows, as `lerobot-train` opens them."""
    from lerobot.datasets import make_dataset

    try:
        return make_dataset(cfg)
    except Exception as error:
        where = f" --dataset.root={cfg.dataset.root}" if cfg.dataset.root else ""
        raise CommandError(
            f"dataset {cfg.dataset.repo_id} cannot be opened: {describe_error(error)}",
            f"`lerobot-ext doctor --dataset.repo_id={cfg.dataset.repo_id}{where}` says what is wrong with it",
        ) from error


def _prior_episodes(dataset: Any) -> Episodes:
    found = read_episodes(dataset.meta)
    if found is None or not len(found):
        raise CommandError(
            f"the frames of {dataset.repo_id} cannot be read from disk", "give --dataset.root of its folder"
        )
    return found


def _learner(plan: Plan, dataset: Any) -> tuple[Any, Any, Any]:
    """Policy, optimizer and accelerator, as `lerobot-train` makes them; the learning rate is constant."""
    from accelerate import Accelerator
    from lerobot.optim.factory import make_optimizer_and_scheduler
    from lerobot.policies import make_policy

    cfg = plan.cfg
    try:
        policy = make_policy(cfg=cfg.policy, ds_meta=dataset.meta, rename_map=cfg.rename_map)
    except ValueError as error:
        raise CommandError(
            f"{plan.pretrained} does not fit {cfg.dataset.repo_id}: {error}",
            "name the data it was trained on, or data with the same columns",
        ) from error
    reason = why_not(policy)
    if reason:
        raise CommandError(
            reason, "train one that does, such as --policy.type=lapo with --policy.extraction=lapo or iql"
        )
    if cfg.optimizer is None:
        cfg.optimizer = cfg.policy.get_optimizer_preset()
    optimizer, _ = make_optimizer_and_scheduler(cfg, policy)
    try:
        note = checkpoints.load_optimizer(optimizer, plan.pretrained)
    except (ValueError, TypeError, KeyError) as error:  # LeRobot and torch say it in different ways
        if plan.progress is not None:
            raise CommandError(
                f"the optimizer's state of {plan.pretrained.parent} does not fit: {error}",
                "resume with the version of the policy that wrote it",
            ) from error
        note = f"the optimizer's state beside {plan.pretrained} does not fit and begins anew: {error}"
    if note:
        logger.warning("%s.", note)
    accelerator = Accelerator(
        step_scheduler_with_optimizer=False,
        mixed_precision=_precision(cfg.policy),
        cpu=cfg.policy.device == "cpu",
    )
    policy, optimizer = accelerator.prepare(policy, optimizer)
    return policy, optimizer, accelerator


def _precision(config: Any) -> str | None:
    """As `lerobot-train` chooses it."""
    if hasattr(config, "dtype"):
        return {"bfloat16": "bf16", "float16": "fp16", "float32": "no"}.get(config.dtype)
    if not getattr(config, "use_amp", False):
        return None
    kind = torch.get_autocast_dtype(torch.device(config.device).type)
    return {torch.bfloat16: "bf16", torch.float16: "fp16"}[kind]


def _pipelines(plan: Plan, device: torch.device) -> Pipelines:
    """The checkpoint's own processors, statistics included.

    `lerobot-train` would take the dataset's statistics. Here they stay: weights, critics and targets have
    learned in these units, and data that are still being collected would move them under the policy.
    """
    from lerobot.envs.factory import make_env_pre_post_processors
    from lerobot.policies import make_pre_post_processors

    cfg = plan.cfg
    overrides: dict[str, Any] = {"device_processor": {"device": device.type}}
    if cfg.rename_map:
        overrides["rename_observations_processor"] = {"rename_map": cfg.rename_map}
    try:
        before, after = make_pre_post_processors(
            cfg.policy, pretrained_path=str(plan.pretrained), preprocessor_overrides=overrides
        )
    except (OSError, ValueError, KeyError) as error:
        raise CommandError(
            f"the processors of {plan.pretrained} cannot be loaded: {describe_error(error)}",
            f"`lerobot-ext doctor --policy.path={plan.pretrained}` examines it",
        ) from error
    env_before, env_after = make_env_pre_post_processors(env_cfg=cfg.env, policy_cfg=cfg.policy)
    return Pipelines(env_before, env_after, before, after)


def _make_env(cfg: Any, count: int) -> Any:
    from lerobot.envs.factory import make_env

    return make_env(cfg.env, n_envs=count, use_async_envs=False)


def _only(envs: Any) -> Any:
    found = [env for tasks in envs.values() for env in tasks.values()]
    if len(found) != 1:
        raise CommandError(
            f"the environment has {len(found)} tasks; a run learns one", "name a single one with --env.task"
        )
    return found[0]


def _check_env(cfg: Any, dataset: Any, env: Any) -> None:
    """Refuse an environment that does not show what the policy sees, or runs at another rate."""
    offered = set(cfg.env.features_map.values())
    missing = sorted(
        name
        for name in cfg.policy.input_features
        if {v: k for k, v in cfg.rename_map.items()}.get(name, name) not in offered
    )
    if missing:
        raise CommandError(
            f"--env.type={cfg.env.type} shows no {', '.join(missing)}, which the policy sees",
            f"it shows {', '.join(sorted(offered))}; koch: --env.obs=state, pixels or state_pixels",
        )
    if cfg.env.fps != dataset.fps:
        raise CommandError(
            f"the environment runs at {cfg.env.fps} frames a second, the prior data at {dataset.fps}",
            "make both alike: a chunk would last longer in one than in the other",
        )
    width = dataset.meta.features["action"]["shape"][0]
    space = env.single_action_space.shape
    if tuple(space) != (width,):
        raise CommandError(
            f"the environment takes actions {tuple(space)}, the prior data hold ({width},)",
            "name data of the same robot",
        )


def _paid(policy: Any, prior: Episodes) -> RewardRule | None:
    """How the prior data were paid; None where the policy's rewards come from success alone."""
    if policy.config.chunk_rules.reward_source != REWARD:
        return None
    if prior.rewards is None:
        raise CommandError(
            f"the prior data have no `{REWARD}`, which the policy learns from",
            "`lerobot-ext label` writes it, or train with --policy.reward_source=sparse_success",
        )
    rule = RewardRule()
    for number, rewards in enumerate(prior.rewards):
        if not len(rewards):
            continue
        rule |= rule_of_episode(rewards, None if prior.success is None else bool(prior.success[number]))
    return rule
