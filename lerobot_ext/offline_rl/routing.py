# SPDX-License-Identifier: Apache-2.0
"""Several losses on the one optimizer that the stock trainer has, as if each had its own.

Adam keeps its moments by parameter, so disjoint parameters in one Adam are separate Adams. What remains is to
keep a loss from reaching parameters that are not its own, and to clip each network by its own norm: LeRobot
clips all of them by one, so that a critic's large gradient shrinks the actor's to nothing.

Legend: `B` batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from lerobot.optim.optimizers import OptimizerConfig
from torch import Tensor, nn

from .shards import clip_pieces, in_pieces

CLIP_NORM = "clip_norm"
"""Key of a parameter group: the largest norm of the group's gradient; missing or 0 leaves it alone."""


def policy_gradient_loss(
    value: Callable[[Tensor], Tensor], actions: Tensor, *, normalize: bool = False
) -> tuple[Tensor, Tensor]:
    """A loss whose gradient raises `value(actions)`, and reaches only what the actions were made by.

    The gradient with respect to the actions is taken apart from the graph (`g = ∂value/∂actions`) and
    `-(actions · g)` is the loss: the deterministic policy gradient exactly, with no gradient for whatever
    `value` is computed by (a critic, a decoder).

    Args:
        value (`Callable`): (B, ...) actions to (B,) values; each value depends on its own sample alone.
        actions (`Tensor`): (B, ...) with the actor's graph; a latent or a chunk just as well.
        normalize (`bool`, *optional*, defaults to `False`): Divide by the mean absolute value of the batch,
            so that the loss does not grow with the scale of the rewards (TD3+BC, Fujimoto and Gu, 2021).

    Returns:
        `tuple[Tensor, Tensor]`: The loss of each sample (B,), whose number means nothing, and the values (B,)
        without a graph.
    """
    with torch.enable_grad():
        leaf = actions.detach().requires_grad_(True)
        values = value(leaf)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    values = values.detach()
    if normalize:
        gradient = gradient / values.abs().mean().clamp_min(torch.finfo(values.dtype).eps)
    return -(actions * gradient.detach()).flatten(1).sum(1), values


def parameter_group(
    modules: Iterable[nn.Module | nn.Parameter], lr: float, *, clip_norm: float = 0.0, **options: Any
) -> dict[str, Any]:
    """One of the groups that a policy returns from `get_optim_params()`.

    Args:
        modules (`Iterable`): Networks or single parameters; what needs no gradient is left out.
        lr (`float`): Its learning rate.
        clip_norm (`float`, *optional*, defaults to `0.0`): Largest norm of its gradient; 0 does not clip.
        **options (`Any`): Of the optimizer, for this group: `weight_decay=0.0`.
    """
    members = [
        parameter
        for module in modules
        for parameter in ([module] if isinstance(module, nn.Parameter) else module.parameters())
        if parameter.requires_grad
    ]
    return {"params": members, "lr": lr, CLIP_NORM: clip_norm, **options}


def clip_groups(optimizer: torch.optim.Optimizer) -> None:
    """Clip the gradient of each parameter group that has a `clip_norm`, by its own norm."""
    for group in optimizer.param_groups:
        largest = group.get(CLIP_NORM) or 0.0
        if largest > 0 and in_pieces(group["params"]):
            clip_pieces(group["params"], largest)
        elif largest > 0:
            torch.nn.utils.clip_grad_norm_(group["params"], largest)


@OptimizerConfig.register_subclass("grouped_adamw")
@dataclass
class GroupedAdamWConfig(OptimizerConfig):
    """AdamW that clips each parameter group by itself, right before its step.

    The trainer's own clipping is off by default (`grad_clip_norm` 0; it still measures the norm). Groups come
    from the policy's `get_optim_params()`, see `parameter_group`; a group's `lr` and other options win.

    Args:
        lr (`float`, *optional*, defaults to `3e-4`): Of groups without one.
        betas (`tuple[float, float]`, *optional*, defaults to `(0.9, 0.999)`): AdamW's betas.
        eps (`float`, *optional*, defaults to `1e-8`): AdamW's epsilon.
        weight_decay (`float`, *optional*, defaults to `0.0`): Of groups without one; a critic wants none.
        grad_clip_norm (`float`, *optional*, defaults to `0.0`): The trainer's, over all parameters at once.
    """

    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0

    def build(self, params: Any) -> torch.optim.Optimizer:
        """The optimizer, with its clipping attached."""
        made = torch.optim.AdamW(
            params, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay
        )
        # Under mixed precision the scaler has unscaled the gradients by the time the step begins.
        made.register_step_pre_hook(lambda optimizer, *_: clip_groups(optimizer))
        return made
