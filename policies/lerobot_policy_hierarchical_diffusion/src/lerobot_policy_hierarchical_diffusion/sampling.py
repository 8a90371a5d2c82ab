# SPDX-License-Identifier: Apache-2.0
"""Draft-then-refine sampling: DDIM from a noised draft, or from pure noise.

Denoising Diffusion Implicit Models (Song et al., 2020, https://arxiv.org/abs/2010.02502) through diffusers'
scheduler; starting part of the way from a draft is SDEdit (Meng et al., 2021,
https://arxiv.org/abs/2108.01073). Differences from the references: none known; the sampler is deterministic
(eta 0) given its starting noise.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

CLIP_RANGE = 1.5
"""Predicted actions are clipped to this multiple of the normalised range; a little room beyond [-1, 1] keeps
extremes reachable."""


def make_scheduler(num_train_timesteps: int, beta_schedule: str, prediction_type: str) -> DDIMScheduler:
    """Build the noise scheduler used in training (`add_noise`) and as the template of `ddim_sample`."""
    return DDIMScheduler(
        num_train_timesteps=num_train_timesteps,
        beta_schedule=beta_schedule,
        prediction_type=prediction_type,
        clip_sample=True,
        clip_sample_range=CLIP_RANGE,
    )


def refinement_timesteps(scheduler: DDIMScheduler, steps: int, start: float) -> Tensor:
    """Set `scheduler` up for `steps` DDIM steps over the lowest `start` share of the noise levels.

    Args:
        scheduler (`DDIMScheduler`): Changed in place.
        steps (`int`): Number of steps, at least 1.
        start (`float`): Share of the noise levels to begin from, in (0, 1].

    Returns:
        `Tensor`: (steps,) long, descending timesteps.
    """
    levels = scheduler.config.num_train_timesteps
    whole = min(
        levels, max(steps, round(steps / start))
    )  # a full chain with this many steps has the wanted stride
    scheduler.set_timesteps(whole)
    timesteps: Tensor = scheduler.timesteps[-steps:]
    return timesteps


@torch.no_grad()
def ddim_sample(
    scheduler: DDIMScheduler,
    denoise: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    *,
    steps: int,
    draft: Tensor | None = None,
    draft_noise: float = 1.0,
) -> Tensor:
    """Sample a chunk.

    Args:
        scheduler (`DDIMScheduler`): Template; not changed.
        denoise (`Callable[[Tensor, Tensor], Tensor]`): Maps noisy chunk (B, H, A) and timestep (B,) to the
            prediction.
        noise (`Tensor`): (B, H, A) standard normal noise.
        steps (`int`): DDIM steps; 0 returns the draft.
        draft (`Tensor`, *optional*): (B, H, A) chunk to refine; without one, sampling starts from pure noise.
        draft_noise (`float`, *optional*, defaults to `1.0`): Share of the noise levels put on the draft.

    Returns:
        `Tensor`: (B, H, A).

    Raises:
        ValueError: If `steps` is 0 and there is no draft.
    """
    if steps == 0:
        if draft is None:
            raise ValueError(
                "`num_inference_steps` is 0 but there is no draft: the manipulation layer is switched off. "
                "Switch it on or take at least 1 step."
            )
        return draft
    chain = copy(scheduler)  # its step size is state; two samplers must not share it
    start = 1.0 if draft is None else draft_noise
    timesteps = refinement_timesteps(chain, steps, start)
    if draft is None or start >= 1.0:
        sample = noise
    else:
        sample = chain.add_noise(draft, noise, timesteps[:1].to(noise.device))
    for timestep in timesteps.tolist():
        predicted = denoise(
            sample, torch.full((len(sample),), timestep, device=sample.device, dtype=torch.long)
        )
        sample = chain.step(predicted, timestep, sample).prev_sample
    return sample
