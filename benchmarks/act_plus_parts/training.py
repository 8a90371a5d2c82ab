# SPDX-License-Identifier: Apache-2.0
"""Train one policy as `lerobot-train` does, from memory: its processors, its optimizer preset, its clipping.

The stock command needs seconds to start and a dataset on disk for each of some fifty trainings.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot_policy_act_plus import ActPlusConfig

from act_plus_parts.demonstrations import ADVANTAGE, features, record
from act_plus_parts.variants import SETTINGS, SIZE, VARIANTS, recipe, training_name


def config_of(task: str, variant: str) -> Any:
    """A variant's configuration for a task."""
    wanted = VARIANTS[variant]
    kind = ACTConfig if wanted.kind == "act" else ActPlusConfig
    fields = {**SIZE, **SETTINGS[task].size, **wanted.flags}
    given = features(SETTINGS[task].picture, depth="depth_fusion" in wanted.flags)
    return kind(**fields, pretrained_backbone_weights=None, **given)


def trained(task: str, variant: str, seed: int, folder: Path, scale: float = 1.0) -> Path:
    """The checkpoint of a variant on a task; trained if it is not there yet, or was trained otherwise.

    Args:
        task (`str`): Of `SETTINGS`.
        variant (`str`): Of `VARIANTS`.
        seed (`int`): Of demonstrations, weights and batches.
        folder (`Path`): Where checkpoints are kept.
        scale (`float`, *optional*, defaults to `1.0`): Share of the demonstrations and steps.
    """
    source = VARIANTS[variant].weights or variant
    out = folder / training_name(task, source, seed)
    if _recipe_in(out) != _plain(recipe(task, source, seed), scale):
        _train(task, source, seed, out, scale)
    return out


def _train(task: str, variant: str, seed: int, out: Path, scale: float) -> None:
    torch.set_num_threads(1)
    setting = SETTINGS[task]
    demos = record(
        setting.task,
        max(2, round(setting.demonstrations * scale)),
        seed,
        belt_m_s=setting.belt_m_s,
        skill=setting.skill,
        picture=setting.picture,
    )
    config = config_of(task, variant)
    stats = demos.statistics(config.chunk_size, relative=getattr(config, "use_relative_actions", False))
    torch.manual_seed(seed)
    policy = get_policy_class(config.type)(config, dataset_stats=stats, dataset_meta=demos.tasks)
    before, after = make_pre_post_processors(config, dataset_stats=stats)
    steps = max(2, round(setting.steps * scale))
    optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
    for group in optimizer.param_groups:
        group["lr"] = config.optimizer_lr
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    policy.train()
    started, losses = time.process_time(), []
    for _ in range(steps):
        raw = demos.batch(setting.batch, config.chunk_size, generator)
        advantage = raw.pop(ADVANTAGE)
        batch = {**before(raw), ADVANTAGE: advantage}
        loss, _ = policy.forward(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    policy.save_pretrained(out)
    before.save_pretrained(out)
    after.save_pretrained(out)
    tail = losses[-max(1, steps // 20) :]
    note = {
        "recipe": _plain(recipe(task, variant, seed), scale),
        "cpu_s": time.process_time() - started,
        "loss": sum(tail) / len(tail),
    }
    partial = out / "done.tmp"
    partial.write_text(json.dumps(note), encoding="utf-8")
    os.replace(partial, out / "done.json")


def load(task: str, variant: str, seed: int, folder: Path) -> tuple[Any, Any, Any]:
    """A trained policy as the variant acts, with its processors."""
    path = folder / training_name(task, VARIANTS[variant].weights or variant, seed)
    config = config_of(task, variant)
    if getattr(config, "task_conditioning", "none") == "index":
        config.task_names = json.loads((path / "config.json").read_text(encoding="utf-8"))["task_names"]
    policy = get_policy_class(config.type).from_pretrained(path, config=config, strict=True).eval()
    before, after = make_pre_post_processors(config, pretrained_path=str(path))
    return policy, before, after


def _plain(made: dict[str, Any], scale: float) -> Any:
    """The recipe as it comes back from a file."""
    return json.loads(json.dumps({**made, "scale": scale}))


def _recipe_in(folder: Path) -> Any:
    """What the checkpoint in a folder was made by; None where there is none."""
    try:
        return json.loads((folder / "done.json").read_text(encoding="utf-8"))["recipe"]
    except FileNotFoundError:
        return None
