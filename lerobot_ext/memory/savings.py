# SPDX-License-Identifier: Apache-2.0
"""What would make a training smaller, each estimated as the training itself is, and the largest batch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from lerobot_ext.cli.command import CommandError
from lerobot_ext.memory.step import Usage, estimate
from lerobot_ext.memory.subject import Subject

LORA_RANK: Final = 16
_MOST: Final = 1 << 16
"""No larger batch is looked for."""
_TRIES: Final = 4


@dataclass(frozen=True)
class Saving:
    """One change.

    Args:
        what (`str`): In words.
        how (`str`): The option that does it.
        usage (`Usage`, *optional*): With it; `None` if that cannot be estimated.
        why (`str`): Then the reason.
    """

    what: str
    how: str
    usage: Usage | None
    why: str = ""


def savings(
    subject: Subject,
    size: int,
    optimizer: Any,
    *,
    amp: bool = False,
    foreach: bool | None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Saving]:
    """Estimate each change that this policy offers.

    Args:
        subject (`Subject`): The policy.
        size (`int`): Batch size.
        optimizer: LeRobot's `OptimizerConfig`.
        amp (`bool`, *optional*): Whether the training has 16-bit autocast already.
        foreach (`bool`, *optional*): As for `estimate`.
        tell (`Callable`, *optional*): Is told what is being estimated.
    """
    for what, how, ask in _changes(subject, size, optimizer, amp, foreach):
        tell(what)
        try:
            yield Saving(what, how, ask())
        except CommandError as error:
            yield Saving(what, how, None, str(error))


def _changes(
    subject: Subject, size: int, optimizer: Any, amp: bool, foreach: bool | None
) -> Iterator[tuple[str, str, Callable[[], Usage]]]:
    config, actor = subject.config, getattr(subject.config, "actor", None)

    def changed(name: str, value: Any, amp: bool = amp) -> tuple[str, Callable[[], Usage]]:
        how = f"--policy.{name}={str(value).lower()}"
        return how, lambda: estimate(
            subject.changed({name: value}), size, optimizer, amp=amp, foreach=foreach
        )

    if getattr(config, "dtype", None) == "float32":
        yield "weights and arithmetic in bfloat16", *changed("dtype", "bfloat16", amp=True)
    elif not amp and getattr(config, "use_amp", None) is False:
        yield "mixed precision (16 bit)", *changed("use_amp", True, amp=True)
    for owner, one in (("", config), ("actor.", actor)):
        if getattr(one, "gradient_checkpointing", None) is False:
            yield "gradient checkpointing", *changed(f"{owner}gradient_checkpointing", True)
    for times in (2, 4):
        if size % times == 0 and size // times >= 2:
            how = f"--batch_size={size // times} --optimizer.type=accumulated_{optimizer.type}"
            yield (
                f"{times} micro-batches of {size // times}",
                f"{how} --optimizer.accumulation={times}",
                lambda times=times: estimate(  # type: ignore[misc]
                    subject, size // times, optimizer, amp=amp, foreach=foreach
                ),
            )
    for field in fields(config):
        if field.name.startswith(("freeze_", "train_expert_only")) and getattr(config, field.name) is False:
            yield f"frozen: {field.name}", *changed(field.name, True)
    if actor is not None and getattr(config, "actor_lora_rank", None) == 0 and _takes_lora(actor):
        yield f"LoRA of rank {LORA_RANK} in the actor", *changed("actor_lora_rank", LORA_RANK)
    if _takes_lora(config) and not subject.lora_rank:
        yield (
            f"LoRA of rank {LORA_RANK}, the rest frozen",
            f"--peft.method_type=LORA --peft.r={LORA_RANK} --policy.path=…",
            lambda: estimate(
                replace(subject, lora_rank=LORA_RANK), size, optimizer, amp=amp, foreach=foreach
            ),
        )


def _takes_lora(config: Any) -> bool:
    """Whether the policy says where adapters go, and PEFT is here to put them there."""
    from lerobot.policies import get_policy_class
    from lerobot.policies.pretrained import PreTrainedPolicy

    own = get_policy_class(config.type)._get_default_peft_targets
    stock = PreTrainedPolicy._get_default_peft_targets
    return own is not stock and importlib.util.find_spec("peft") is not None


def largest_batch(
    subject: Subject, first: Usage, optimizer: Any, limit: int, *, amp: bool, foreach: bool | None
) -> tuple[int, Usage | None]:
    """The largest batch whose step stays within a limit.

    Two estimates give a straight line for each phase; a third one confirms the batch that they lead to.

    Args:
        subject (`Subject`): The policy.
        first (`Usage`): An estimate with any batch size.
        optimizer: LeRobot's `OptimizerConfig`.
        limit (`int`): Bytes.
        amp (`bool`): As for `estimate`.
        foreach (`bool`, *optional*): As for `estimate`.

    Returns:
        The batch size, 0 if even a single sample is too large, and what it takes.
    """

    def ask(size: int) -> Usage:
        return estimate(subject, size, optimizer, amp=amp, foreach=foreach)

    second = ask(2 * first.batch_size)
    size = _MOST
    for phase, peak in first.peaks.items():
        slope = (second.peaks[phase] - peak) / first.batch_size
        room = limit - (peak - slope * first.batch_size)
        if slope > 0:
            size = min(size, int(room // slope))
        elif room < 0:
            return 0, None
    for _ in range(_TRIES):
        if size < 1:
            return 0, None
        found = ask(size)
        if found.peak <= limit:
            return size, found
        size = min(size - 1, int(size * limit / found.peak))
    return 0, None
