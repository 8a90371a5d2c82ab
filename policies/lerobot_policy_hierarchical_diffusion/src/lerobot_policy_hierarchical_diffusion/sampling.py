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
from dataclasses import dataclass

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from .fast.conditioned import Conditioned

CLIP_RANGE = 1.5
"""Predicted actions are clipped to this multiple of the normalised range; a little room beyond [-1, 1] keeps
extremes reachable."""


@dataclass(frozen=True)
class Committed:
    """Actions that a new chunk has to continue, for real-time chunking.

    Denoising then fills in the rest, as in inpainting: after each step the predicted clean chunk is mixed
    with these actions (Lugmayr et al., 2022, https://arxiv.org/abs/2201.09865, on the prediction instead of
    the noisy sample; Black et al., 2025, https://arxiv.org/abs/2506.07339, for chunks of actions).

    Args:
        actions (`Tensor`): (B, H, A) what the chunk before has for the same frames.
        weights (`Tensor`): (H,) 1 where the action will have been executed before the new chunk comes,
            falling to 0 where the new chunk is free.
    """

    actions: Tensor
    weights: Tensor

    def mixed_into(self, chunk: Tensor) -> Tensor:
        """`chunk` (B, H, A) with the committed actions in their share."""
        return torch.lerp(chunk, self.actions, self.weights[:, None])


def _with_committed(
    chain: DDIMScheduler, predicted: Tensor, timestep: int, sample: Tensor, committed: Committed
) -> Tensor:
    """The network's prediction, changed so that the clean chunk it stands for holds the committed actions."""
    if chain.config.prediction_type == "sample":
        return committed.mixed_into(predicted)
    alpha = chain.alphas_cumprod[timestep]
    clean = (sample - (1 - alpha).sqrt() * predicted) / alpha.sqrt()
    mixed = committed.mixed_into(clean)
    noise: Tensor = (sample - alpha.sqrt() * mixed) / (1 - alpha).sqrt()
    return noise


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


@dataclass(frozen=True)
class Chain:
    """The steps of a sampling, which depend on no data.

    Args:
        scheduler (`DDIMScheduler`): Set up for these steps, and not to be set up for others.
        timesteps (`tuple[int, ...]`): Descending.
        signals (`tuple[float, ...]`): Share of the clean chunk in the sample before each step and after the
            last one: the root of the scheduler's cumulated alpha.
        noises (`tuple[float, ...]`): The same of the noise.
    """

    scheduler: DDIMScheduler
    timesteps: tuple[int, ...]
    signals: tuple[float, ...]
    noises: tuple[float, ...]

    def step(self, number: int, predicted: Tensor, sample: Tensor) -> Tensor:
        """The sample after step `number`: the scheduler's `step` with eta 0, in few operations."""
        signal, noise = self.signals[number], self.noises[number]
        if self.scheduler.config.prediction_type == "sample":
            clean, noisy = predicted, torch.sub(sample, predicted, alpha=signal) / noise
        else:
            clean, noisy = torch.sub(sample, predicted, alpha=noise) / signal, predicted
        clean = clean.clamp(-CLIP_RANGE, CLIP_RANGE)
        return clean * self.signals[number + 1] + noisy * self.noises[number + 1]


def make_chain(scheduler: DDIMScheduler, steps: int, start: float) -> Chain:
    """Prepare `steps` DDIM steps over the lowest `start` share of the noise levels."""
    own = copy(scheduler)  # its step size is state; two samplers must not share it
    timesteps = tuple(refinement_timesteps(own, steps, start).tolist())
    stride = own.config.num_train_timesteps // own.num_inference_steps
    ends = timesteps[-1] - stride
    alphas = [float(own.alphas_cumprod[timestep]) for timestep in timesteps]
    alphas.append(float(own.alphas_cumprod[ends] if ends >= 0 else own.final_alpha_cumprod))
    return Chain(own, timesteps, tuple(a**0.5 for a in alphas), tuple((1 - a) ** 0.5 for a in alphas))


@torch.no_grad()
def ddim_sample(
    scheduler: DDIMScheduler,
    denoise: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    *,
    steps: int,
    draft: Tensor | None = None,
    draft_noise: float = 1.0,
    committed: Committed | None = None,
    chain: Chain | None = None,
) -> Tensor:
    """Sample a chunk.

    Args:
        scheduler (`DDIMScheduler`): Template; not changed.
        denoise (`Callable[[Tensor, Tensor], Tensor]`): Maps noisy chunk (B, H, A) and timestep (B,) to the
            prediction; a `Conditioned` computes once for all steps what does not change between them.
        noise (`Tensor`): (B, H, A) standard normal noise.
        steps (`int`): DDIM steps; 0 returns the draft.
        draft (`Tensor`, *optional*): (B, H, A) chunk to refine; without one, sampling starts from pure noise.
        draft_noise (`float`, *optional*, defaults to `1.0`): Share of the noise levels put on the draft.
        committed (`Committed`, *optional*): Actions of the chunk before that this one must go on from.
        chain (`Chain`, *optional*): From `make_chain` for the same arguments, to spare its making.

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
        return draft if committed is None else committed.mixed_into(draft)
    start = 1.0 if draft is None else draft_noise
    chain = chain or make_chain(scheduler, steps, start)
    if draft is None or start >= 1.0:
        sample = noise
    else:
        first = torch.full((1,), chain.timesteps[0], device=noise.device, dtype=torch.long)
        sample = chain.scheduler.add_noise(draft, noise, first)
    predict = denoise.over(chain.timesteps) if isinstance(denoise, Conditioned) else None
    for number, timestep in enumerate(chain.timesteps):
        if predict is not None:
            predicted = predict(sample, number)
        else:
            every = torch.full((len(sample),), timestep, device=sample.device, dtype=torch.long)
            predicted = denoise(sample, every)
        if committed is not None:
            predicted = _with_committed(chain.scheduler, predicted, timestep, sample, committed)
        sample = chain.step(number, predicted, sample)
    return sample
