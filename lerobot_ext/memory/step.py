# SPDX-License-Identifier: Apache-2.0
"""One training step of `lerobot-train`, and the bytes that live in each phase of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn

from lerobot_ext.cli.command import CommandError
from lerobot_ext.memory.fake import NEEDS_VALUES, without_memory
from lerobot_ext.memory.live import LiveBytes
from lerobot_ext.memory.roles import EMA, TARGET, copies, nbytes, within
from lerobot_ext.memory.subject import Subject
from lerobot_ext.plugins import describe_error

FORWARD, BACKWARD, OPTIMIZER, UPDATE = "forward", "backward", "optimizer", "update"
PHASES: Final = (FORWARD, BACKWARD, OPTIMIZER, UPDATE)
PARAMETERS, BUFFERS, GRADIENTS, STATE, ACTIVATIONS = (
    "parameters",
    "buffers",
    "gradients",
    "optimizer",
    "activations",
)
KINDS: Final = (PARAMETERS, BUFFERS, EMA, TARGET, GRADIENTS, STATE, ACTIVATIONS)
_STANDING: Final = (PARAMETERS, BUFFERS, EMA, TARGET, STATE)


@dataclass
class Usage:
    """Bytes of a training.

    Args:
        batch_size (`int`): Samples of the step.
        parts (`dict[str, dict[str, int]]`): By kind (`KINDS`), then by the submodule that owns them (`""`:
            the policy itself). `activations` are what lives between forward and backward.
        batch (`int`): Of the batch.
        peaks (`dict[str, int]`): The most that lives during each phase, everything that stands included.
        n_parameters (`dict[str, int]`): Parameters of each submodule, themselves alone.
        n_trained (`int`): Of all parameters those that are trained.
    """

    batch_size: int
    parts: dict[str, dict[str, int]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    batch: int = 0
    peaks: dict[str, int] = field(default_factory=dict)
    n_parameters: dict[str, int] = field(default_factory=dict)
    n_trained: int = 0

    def total(self, kind: str) -> int:
        """Bytes of a kind."""
        return sum(self.parts[kind].values())

    @property
    def standing(self) -> int:
        """Bytes that are there from one step to the next."""
        return sum(self.total(kind) for kind in _STANDING)

    @property
    def peak(self) -> int:
        """The most that lives at any time of a step."""
        return max(self.peaks.values())

    def below(self, kind: str, name: str) -> int:
        """Bytes of a kind of a submodule with what is in it; of everything for `""`."""
        return sum(size for owner, size in self.parts[kind].items() if not name or within(owner, [name]))

    def parameters_below(self, name: str) -> int:
        """Number of parameters of a submodule with what is in it."""
        return sum(number for owner, number in self.n_parameters.items() if not name or within(owner, [name]))


def estimate(
    subject: Subject, size: int, optimizer: Any, *, amp: bool = False, foreach: bool | None = True
) -> Usage:
    """What a training step takes, without taking it.

    Args:
        subject (`Subject`): The policy.
        size (`int`): Batch size.
        optimizer: LeRobot's `OptimizerConfig`.
        amp (`bool`, *optional*): The forward pass under 16-bit autocast.
        foreach (`bool`, *optional*): Let the optimizer change all parameters in one go, as PyTorch does on a
            GPU; `None` leaves the choice to PyTorch, for a CPU.

    Raises:
        CommandError: The policy cannot be made, or its code needs values that an estimate has not.
    """
    try:
        with without_memory():
            return run_step(subject.build(), subject.batch(size), size, optimizer, amp=amp, foreach=foreach)
    except NEEDS_VALUES as error:
        raise CommandError(
            f"policy {subject.config.type} cannot be estimated: what it does depends on values "
            f"({describe_error(error)[:200]})",
            "--measure=only trains a step of it for real instead",
        ) from error


def run_step(
    policy: nn.Module,
    batch: Mapping[str, Any],
    size: int,
    optimizer: Any,
    *,
    amp: bool = False,
    foreach: bool | None = None,
    watch: Callable[[str], Any] = lambda _: nullcontext(),
) -> Usage:
    """Train two steps and account for the second: at the first the optimizer makes its state.

    Args:
        policy (`nn.Module`): In training mode.
        batch (`Mapping`): As its `forward` receives it.
        size (`int`): Samples in it.
        optimizer: LeRobot's `OptimizerConfig`.
        amp (`bool`, *optional*): As for `estimate`.
        foreach (`bool`, *optional*): As for `estimate`.
        watch (`Callable`, *optional*): A context for each phase of the second step, by its name.
    """
    device = next(policy.parameters()).device.type
    stepping = optimizer.build(_optim_params(policy))
    if foreach is not None:
        for group in stepping.param_groups:
            if "foreach" in group:
                group["foreach"] = foreach
    usage = Usage(size)
    live = LiveBytes(policy)

    def forward() -> Tensor:
        with torch.autocast(device, torch.bfloat16) if amp else nullcontext():
            loss: Tensor = policy(batch)[0]
        return loss

    def backward(loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        if optimizer.grad_clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(policy.parameters(), optimizer.grad_clip_norm)

    backward(forward())
    stepping.step()
    stepping.zero_grad()
    _update(policy)

    live.ignore([dict(batch), list(policy.parameters()), list(policy.buffers()), _state(stepping)])
    _account(policy, stepping, batch, usage)
    standing = usage.standing + usage.batch
    with live.watching():
        with watch(FORWARD):
            loss = forward()
        usage.peaks[FORWARD] = live.peak
        usage.parts[ACTIVATIONS] = live.by_module()
        live.restart_peak()
        with watch(BACKWARD):
            backward(loss)
        del loss
        usage.peaks[BACKWARD] = live.peak
        _account_gradients(policy, usage)
        live.restart_peak()
        with watch(OPTIMIZER):
            stepping.step()
            stepping.zero_grad()
        usage.peaks[OPTIMIZER] = live.peak
        live.restart_peak()
        with watch(UPDATE):
            _update(policy)
        usage.peaks[UPDATE] = live.peak
    usage.peaks = {phase: peak + standing for phase, peak in usage.peaks.items()}
    return usage


def uses_autocast(config: Any) -> bool:
    """Whether `lerobot-train` trains a policy with 16-bit autocast: by its `dtype`, else by `use_amp`."""
    if hasattr(config, "dtype"):
        return config.dtype in ("bfloat16", "float16")
    return bool(getattr(config, "use_amp", False))


def _optim_params(policy: Any) -> Any:
    """What `lerobot-train` gives the optimizer."""
    return policy.get_optim_params()


def _update(policy: Any) -> None:
    if callable(getattr(policy, "update", None)):
        policy.update()


def _state(stepping: torch.optim.Optimizer) -> list[Tensor]:
    return [
        value
        for state in stepping.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    ]


def _account(
    policy: nn.Module, stepping: torch.optim.Optimizer, batch: Mapping[str, Any], usage: Usage
) -> None:
    """What stands, by owner; a tensor that two submodules share is the first one's."""
    copied = copies(policy)
    seen: set[int] = set()

    def add(kind: str, owner: str, size: int) -> None:
        usage.parts[kind][owner] = usage.parts[kind].get(owner, 0) + size

    for owner, module in policy.named_modules():
        role = copied.get(within(owner, copied), "")
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            add(role or PARAMETERS, owner, nbytes(parameter))
            usage.n_parameters[owner] = usage.n_parameters.get(owner, 0) + parameter.numel()
            usage.n_trained += parameter.numel() if parameter.requires_grad else 0
            for value in stepping.state.get(parameter, {}).values():
                if isinstance(value, torch.Tensor):
                    add(STATE, owner, nbytes(value))
        for buffer in module.buffers(recurse=False):
            if id(buffer) not in seen:
                seen.add(id(buffer))
                add(role or BUFFERS, owner, nbytes(buffer))
    usage.batch = sum(nbytes(value) for value in batch.values() if isinstance(value, torch.Tensor))


def _account_gradients(policy: nn.Module, usage: Usage) -> None:
    seen: set[int] = set()
    for owner, module in policy.named_modules():
        for parameter in module.parameters(recurse=False):
            if parameter.grad is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                found = usage.parts[GRADIENTS]
                found[owner] = found.get(owner, 0) + nbytes(parameter.grad)
