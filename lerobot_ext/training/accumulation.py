# SPDX-License-Identifier: Apache-2.0
"""Gradient accumulation inside an optimizer, for a loop that calls `step` after each backward pass.

LeRobot's training loop runs forward, backward, `optimizer.step()`, `optimizer.zero_grad()` for each batch.
An optimizer made `accumulating` keeps the gradients of k such micro-batches and does its own step at the
k-th, on their mean, clipped once: the step that one batch of k times the size would have made, where the loss
is a mean over the batch.

- Under DDP the gradients that arrive are means over the ranks already, so that each rank keeps the same sum
  and the sum saved by rank 0 is everybody's. Each micro-batch is synchronised, which costs k-1 more
  all-reduces than it must.
- A `GradScaler` unscales before `step`. A micro-batch that overflows never arrives: it is not counted.
- The sum is one more copy of the parameters in memory, in float32 where the parameters are half precision.
- FSDP shards parameters, whose norm no rank knows alone: refused by `accumulation_hooks`.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

SUM = "grad_sum"
COUNT = "n_accumulated"


class Accumulating(Optimizer):
    """What `accumulating` adds to an optimizer; the sums and their count are part of its state.

    Attributes:
        accumulation (`int`): Micro-batches to a step, k.
        clip_norm (`float`): Norm to which the mean gradient is clipped; 0 leaves it.
        n_updates (`int`): Own steps since the optimizer was made, in this process.
        last_grad_norm (`float`): Norm of the last mean gradient, before it was clipped; NaN before the first.
    """

    accumulation: int
    clip_norm: float
    n_updates: int
    last_grad_norm: float
    _sums: dict[torch.Tensor, torch.Tensor]
    _seen: dict[str, int]

    @property
    def n_accumulated(self) -> int:
        """Micro-batches since the last own step; in the first group so that it is saved with it."""
        return int(self.param_groups[0][COUNT])

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take in the gradients of one micro-batch; the k-th time do the optimizer's own step.

        Raises:
            ValueError: There is a closure: it would be called for an own step only.
        """
        if closure is not None:
            raise ValueError("an accumulating optimizer takes no closure; call backward(), then step()")
        for parameter in self._parameters():
            if parameter.grad is None:
                continue
            if parameter in self._sums:
                self._sums[parameter].add_(parameter.grad)
            else:
                self._sums[parameter] = parameter.grad.detach().to(_wide(parameter.dtype), copy=True)
        self._count(self.n_accumulated + 1)
        if self.n_accumulated >= self.accumulation:
            self._update()

    def take_update(self, who: str) -> bool:
        """Whether there was an own step since `who` asked last."""
        seen, self._seen[who] = self._seen.get(who, 0), self.n_updates
        return self.n_updates > seen

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's own, with the sums among the state of each parameter."""
        state_dict = super().state_dict()
        # A copy: the inner dictionaries are the live ones.
        state_dict["state"] = {index: dict(values) for index, values in state_dict["state"].items()}
        for index, parameter in enumerate(self._parameters()):
            if parameter in self._sums:
                state_dict["state"].setdefault(index, {})[SUM] = self._sums[parameter].contiguous()
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The optimizer's own, and the sums."""
        sums = {index: values[SUM] for index, values in state_dict["state"].items() if SUM in values}
        rest = {
            index: {name: value for name, value in values.items() if name != SUM}
            for index, values in state_dict["state"].items()
        }
        # AdamW takes a parameter with any state for one that it has stepped before.
        rest = {index: values for index, values in rest.items() if values}
        super().load_state_dict({**state_dict, "state": rest})
        parameters = list(self._parameters())
        self._sums = {
            parameters[index]: value.to(parameters[index].device, _wide(parameters[index].dtype), copy=True)
            for index, value in sums.items()
        }

    def _update(self) -> None:
        """Do the optimizer's own step on the mean gradient.

        The mean is over the micro-batches that came: k of them, unless k was changed on the way.
        """
        for parameter in self._parameters():
            if parameter in self._sums:
                mean = self._sums[parameter].div_(self.n_accumulated)
                parameter.grad = mean.to(parameter.dtype)
        limit = self.clip_norm if self.clip_norm > 0 else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(list(self._sums), limit)
        self.last_grad_norm = float(norm)
        super().step()
        self._sums.clear()
        self._count(0)
        self.n_updates += 1

    def _count(self, n: int) -> None:
        for group in self.param_groups:
            group[COUNT] = n

    def _parameters(self) -> Iterator[torch.Tensor]:
        """All parameters, in the order in which a state dict numbers them."""
        for group in self.param_groups:
            yield from group["params"]


def accumulating(optimizer: Optimizer, accumulation: int, clip_norm: float = 0.0) -> Accumulating:
    """Make `optimizer` accumulate; it is changed and returned.

    Args:
        optimizer (`Optimizer`): Any that steps on gradients alone, fresh.
        accumulation (`int`): Micro-batches to a step, at least 1.
        clip_norm (`float`, *optional*, defaults to `0.0`): Norm to which the mean gradient is clipped; 0
            leaves it.

    Raises:
        ValueError: `accumulation` or `clip_norm` is out of range.
    """
    check_settings(accumulation, clip_norm)
    optimizer.__class__ = _accumulating_class(type(optimizer))  # type: ignore[arg-type]
    assert isinstance(optimizer, Accumulating)
    optimizer.accumulation, optimizer.clip_norm = accumulation, clip_norm
    optimizer.n_updates, optimizer.last_grad_norm = 0, float("nan")
    optimizer._sums, optimizer._seen = {}, {}
    optimizer._count(0)
    # A fused optimizer would take scaled gradients from a GradScaler, and the sum needs true ones.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


def check_settings(accumulation: int, clip_norm: float) -> None:
    """Refuse what cannot be meant.

    Raises:
        ValueError: `accumulation` is below 1 or `clip_norm` is negative.
    """
    if accumulation < 1:
        raise ValueError(
            f"`accumulation` ({accumulation}) must be at least 1: the number of micro-batches to a step."
        )
    if not clip_norm >= 0:
        raise ValueError(f"`clip_norm` ({clip_norm}) must be 0 (no clipping) or above.")


def once_an_update(scheduler: LRScheduler, optimizer: Accumulating) -> LRScheduler:
    """Let a scheduler that is stepped after each micro-batch advance with the optimizer's own steps only."""
    scheduler.__class__ = _patient_class(type(scheduler))  # type: ignore[arg-type]
    optimizer.take_update("scheduler")
    return scheduler


@cache
def _accumulating_class(stock: type[Optimizer]) -> type[Accumulating]:
    return type(f"Accumulating{stock.__name__}", (Accumulating, stock), {})


@cache
def _patient_class(stock: type[LRScheduler]) -> type[LRScheduler]:
    return type(f"OnceAnUpdate{stock.__name__}", (_OnceAnUpdate, stock), {})


class _OnceAnUpdate(LRScheduler):
    """What `once_an_update` adds to a scheduler."""

    def step(self, epoch: int | None = None) -> None:
        """Stock's, if the optimizer has done a step of its own since the last call."""
        if self.optimizer.take_update("scheduler"):  # type: ignore[attr-defined]
            super().step(epoch)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type to sum in: halves would lose the small gradients."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
