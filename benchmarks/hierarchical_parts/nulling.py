# SPDX-License-Identifier: Apache-2.0
"""What each layer is worth to the denoiser of our trained policies (`lerobot-ext ablate`, over trainings)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hierarchical_parts import policies
from hierarchical_parts.settings import Settings, Task
from lerobot_ext.bootstrap import Interval


def losses(checkpoint: Path, task: Task, settings: Settings) -> dict[str, Any]:
    """Sums of the held-out diffusion loss of each episode, by variant, and the episodes' frames."""
    from lerobot_policy_hierarchical_diffusion.ablation.losses import episode_losses

    policy = policies.load(checkpoint, settings.device)
    held_out = policies.held_out(policy, checkpoint, task, settings)
    found = episode_losses(policy, held_out, settings.noise_draws)
    return {"layers": policy.config.layers, "frames": found.frames, "sums": found.sums}


def rises(found: list[dict[str, Any]]) -> dict[str, Interval]:
    """By how much of the full loss each variant is above it, over several trainings."""
    from lerobot_policy_hierarchical_diffusion.ablation.losses import rises_of

    return rises_of([one["sums"] for one in found])


def loss_of(found: list[dict[str, Any]]) -> Interval:
    """The held-out diffusion loss with all layers."""
    from lerobot_policy_hierarchical_diffusion.ablation import losses as ablation

    full = [one["sums"][ablation.FULL] for one in found]
    return ablation.loss_of(full, [one["frames"] for one in found])
