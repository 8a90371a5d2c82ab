# SPDX-License-Identifier: Apache-2.0
"""What it means for a checkpoint how LeRobot, its plugins and the policy's own code took it."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from lerobot_ext.doctor.child import Answer
from lerobot_ext.doctor.findings import Finding, note, problem

if TYPE_CHECKING:
    from lerobot_ext.doctor.checkpoint import Checkpoint

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
_NAME: Final = re.compile(r"[A-Za-z0-9_]+")


def about_loading(found: "Checkpoint", told: Answer) -> Iterator[Finding]:
    """What LeRobot, its plugins and the policy made of a checkpoint.

    Args:
        found (`Checkpoint`): What its files say.
        told (`Answer`): What the child says, see `checkpoint_child.look`.
    """
    if told.failure:
        yield problem(
            "policy_build",
            found.type,
            f"the process that loads LeRobot, its plugins and the policy {told.failure}",
            "`lerobot-ext doctor` finds a plugin that ends or hangs it",
        )
        return
    seen = told.value
    if not seen["type_known"]:
        yield problem(
            "policy_type",
            found.type,
            f"policy type {found.type!r} is not registered here",
            _provider(found, f"policy {found.type}") or _guess(found.type),
        )
    elif seen["config_error"]:
        yield problem(
            "checkpoint_config",
            CONFIG,
            f"its values do not fit {found.type} here: {seen['config_error']}",
            "install the version of LeRobot, or of the plugin, that it was made with",
        )
    for name, error in seen["unknown_steps"].items():
        yield problem(
            "step",
            name,
            f"processor step {name!r} is not there: {error}",
            _provider(found, f"step {name}")
            or "install the plugin that brings it; `lerobot-ext plugins` lists what each has",
        )
    yield from _about_weights(found, seen)


def _provider(found: "Checkpoint", part: str) -> str:
    """The install command of the package that brings `policy x` or `step x`; empty when none is known."""
    from lerobot_ext.hub.requirements import install_line
    from lerobot_ext.installing import install_command
    from lerobot_ext.missing import PROVIDERS

    for package in found.packages:
        if part in package.provides:
            return f"`{install_line([package])}`"
    ours = PROVIDERS.get(("--policy.type", part.removeprefix("policy ")))
    return f"`{install_command(ours)}`" if ours else ""


def _guess(policy_type: str) -> str:
    """Where to look for a type that nobody names; a name that no package could have goes into no command."""
    named = f", perhaps `pip install lerobot_policy_{policy_type}`" if _NAME.fullmatch(policy_type) else ""
    return (
        f"install the plugin that brings it{named}; `lerobot-ext doctor` says if one is installed and broken"
    )


def _about_weights(found: "Checkpoint", seen: dict[str, Any]) -> Iterator[Finding]:
    file = WEIGHTS
    bad = seen["not_finite"]
    if bad:
        others = f", and so do {', '.join(bad[1:4])}" if len(bad) > 1 else ""
        others += f" and {len(bad) - 4} more" if len(bad) > 4 else ""
        yield problem(
            "weights_value",
            bad[0],
            f"{file}: {bad[0]} holds NaN or infinity{others}",
            "the training diverged: take an earlier checkpoint, or train with a lower learning rate, "
            "gradient "
            "clipping or without AMP",
        )
    if seen["build_error"]:
        yield (note if seen["build_excuse"] else problem)(
            "policy_build",
            found.type,
            f"the policy cannot be built here: {seen['build_error']}",
            seen["build_needs"]
            or seen["build_excuse"]
            or "install the version of LeRobot, or of the plugin, that "
            "it was made with: `lerobot-train` noted its options in train_config.json",
        )
    remap = seen["remaps"]
    missing, wrong, extra = seen["missing"], seen["wrong_shape"], seen["extra"]
    level = note if remap else problem
    if missing or wrong:
        names = [*wrong, *(f"{name} (not there)" for name in missing)]
        shown = "; ".join(names[:4]) + (f"; and {len(names) - 4} more" if len(names) > 4 else "")
        yield level(
            "weights_mismatch",
            file,
            f"{len(names)} of its tensors are not what {CONFIG} builds: {shown}",
            f"{CONFIG} and {file} are of two trainings: copy both from one checkpoint"
            + ("; this policy renames weights when it loads, which may explain it" if remap else ""),
        )
    if extra and not found.is_legacy:
        shown = ", ".join(extra[:4]) + (f" and {len(extra) - 4} more" if len(extra) > 4 else "")
        yield note(
            "weights_extra",
            file,
            f"{len(extra)} of its tensors are not used by the policy: {shown}",
            "harmless when it is meant; else the checkpoint is of another version of the policy",
        )
