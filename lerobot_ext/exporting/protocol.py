# SPDX-License-Identifier: Apache-2.0
"""What a policy and a processor step say about themselves, so that the actor can be exported.

A policy whose actor is one of LeRobot's own policies has a method:

    def stock_policy(self) -> PreTrainedPolicy:
        \"\"\"The actor, with its weights, as an instance of LeRobot's class.\"\"\"

It makes a policy of the stock class from a stock configuration, gives it the weights, and returns it; it
raises `NotExportableError` where the actor does something that the stock class cannot, and says which field.
LeRobot's own policies need nothing. A processor step of a plugin that a policy acts the same without (an
augmentation, a check) has a method:

    def leaves_actions_alone(self) -> bool:
        \"\"\"Whether a policy that runs, rather than trains, acts the same without this step.\"\"\"

Steps that say so are left out, LeRobot's own are kept, and any other one is a reason not to export.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


class NotExportableError(ValueError):
    """A policy that no stock class can stand for; `remedy` says what to do instead."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@runtime_checkable
class ExportsStockPolicy(Protocol):
    """A policy with a stock actor."""

    def stock_policy(self) -> Any:
        """The actor, with its weights, as an instance of LeRobot's class.

        Raises:
            NotExportableError: The actor does something that the stock class cannot.
        """


@runtime_checkable
class SaysWhatItDoes(Protocol):
    """A processor step that knows whether actions depend on it."""

    def leaves_actions_alone(self) -> bool:
        """Whether a policy that runs, rather than trains, acts the same without this step."""


def stock_policy_of(policy: Any) -> Any:
    """The policy as an instance of a stock class.

    Raises:
        NotExportableError: There is no such class, or the policy refuses.
        TypeError: What the policy gives is none.
    """
    kind = str(policy.config.type)
    if is_stock(type(policy)):
        return policy
    if not isinstance(policy, ExportsStockPolicy):
        raise NotExportableError(
            f"policy {kind} is no policy of LeRobot's own, and has none as its actor (no `stock_policy`)",
            _other_ways(kind),
        )
    made = policy.stock_policy()
    if not is_stock(type(made)):
        raise TypeError(
            f"`stock_policy` of {kind} gave a {type(made).__module__}.{type(made).__name__}, which is no "
            "policy of LeRobot's own"
        )
    return made


def stock_steps(pipeline: Any) -> tuple[list[Any], list[str]]:
    """The steps of a pipeline that LeRobot alone can load, and the names of those that are left out.

    Raises:
        NotExportableError: A step of a plugin changes what the policy does.
    """
    kept, left_out = [], []
    for step in pipeline.steps:
        name = getattr(type(step), "_registry_name", None) or type(step).__name__
        if is_stock(type(step)):
            kept.append(step)
        elif isinstance(step, SaysWhatItDoes) and step.leaves_actions_alone():
            left_out.append(str(name))
        else:
            raise NotExportableError(
                f"step {name} of {type(step).__module__.partition('.')[0]} changes what the policy does",
                "run the policy where that package is installed, or train it without the step",
            )
    return kept, left_out


def is_stock(cls: type) -> bool:
    """Whether a class is LeRobot's own."""
    return cls.__module__.partition(".")[0] == "lerobot"


def _other_ways(kind: str) -> str:
    """What can be done with a policy that stays what it is."""
    from lerobot_ext.cli.main import command_entry_points

    install = "run it where its package is installed (`lerobot-ext push` names the packages for others)"
    if "export-graph" in command_entry_points() and kind == "hierarchical_diffusion":
        return f"{install}; `lerobot-ext export-graph` writes its plan as torch.export or ONNX"
    return install
