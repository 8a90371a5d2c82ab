# SPDX-License-Identifier: Apache-2.0
"""The policies that are compared, as flags of the stock `lerobot-train` and `lerobot-eval`.

ours       `hierarchical_diffusion` as it is
flat       the same without layers: the observation encoder sees what they saw, and the denoiser is made wide
           enough to have as many parameters (within 2 %)
stock      LeRobot's `diffusion`: a U-Net of about as many parameters, ours' chunk and learning rate (its own,
           1e-4 after 500 steps of warm-up, hardly moves in so few steps); evaluated with its own 100 DDPM
           steps, and with 10 DDIM steps
curriculum ours, layer after layer
stock_default  LeRobot's `diffusion` exactly as it ships (248 M parameters); only if asked for, on a GPU
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hierarchical_parts.matching import TOLERANCE, closest_width, parameters
from hierarchical_parts.settings import OURS, Task

HIERARCHICAL = "hierarchical_diffusion"
DDIM = {"noise_scheduler_type": "DDIM", "num_inference_steps": 10}


@dataclass(frozen=True)
class Method:
    """A policy that takes part.

    Args:
        title (`str`): Name in tables.
        variants (`dict[str, dict]`): Ways to evaluate the same checkpoint: fields of the policy.
    """

    title: str
    variants: dict[str, dict[str, Any]] = field(default_factory=lambda: {"": {}})


METHODS = {
    OURS: Method("ours"),
    "flat": Method("flat diffusion, parameter-matched"),
    "stock": Method("stock diffusion", {"": {}, "ddim10": DDIM}),
    "curriculum": Method("ours, curriculum"),
    "stock_default": Method("stock diffusion as it ships"),
}
DEFAULT_METHODS = (OURS, "flat", "stock", "curriculum")


def fields(method: str, task: Task) -> dict[str, Any]:
    """The policy's fields for a training, `type` included."""
    if method == OURS:
        return {"type": HIERARCHICAL}
    if method == "curriculum":
        return {"type": HIERARCHICAL, "curriculum": stages(task.points[-1])}
    if method == "flat":
        return {"type": HIERARCHICAL, "layers": [], "denoiser_dim": flat_width(task.cameras)}
    if method == "stock":
        return _stock(stock_width(task.cameras), task.cameras)
    return {"type": "diffusion"} | (_without_download() if task.cameras else {})


def stages(steps: int) -> list[dict[str, Any]]:
    """Three stages: what to do, then how to move, then where to go; the last takes half of the steps."""
    quarter = max(1, steps // 4)
    every = ["safety", "dynamics", "manipulation", "planning"]
    return [
        {"name": "manipulation", "layers": ["manipulation"], "steps": quarter},
        {
            "name": "motion",
            "layers": ["safety", "dynamics", "manipulation"],
            "steps": quarter,
            "ramp": quarter // 4,
        },
        {"name": "all", "layers": every, "ramp": quarter // 4},
    ]


@cache
def flat_width(cameras: bool) -> int:
    """Width of the flat policy's denoiser with which it has as many parameters as ours.

    Raises:
        SystemExit: There is none within 2 %.
    """

    def count(width: int) -> int:
        return parameters(HIERARCHICAL, {"layers": (), "denoiser_dim": width}, cameras)

    wanted = parameters(HIERARCHICAL, {}, cameras)
    width, found = closest_width(wanted, count, range(64, 2049, 4))
    if abs(found - wanted) > TOLERANCE * wanted:
        raise SystemExit(f"no flat policy has {wanted} parameters: width {width} has {found}.")
    return width


@cache
def stock_width(cameras: bool) -> int:
    """Channels of the stock U-Net's first level; with cameras the one of the task without them.

    Its ResNet-18s alone have ten times ours' parameters, so only the U-Net can be matched.
    """

    def count(width: int) -> int:
        return parameters("diffusion", _as_fields(_stock(width, cameras=False)), cameras=False)

    return closest_width(parameters(HIERARCHICAL, {}, cameras=False), count, range(16, 257, 8))[0]


def _stock(width: int, cameras: bool) -> dict[str, Any]:
    made = {
        "type": "diffusion",
        "down_dims": [width, 2 * width, 4 * width],
        "horizon": 16,
        "n_action_steps": 8,
        "optimizer_lr": 1e-3,
        "scheduler_warmup_steps": 100,
    }
    return made | (_without_download() if cameras else {})


def _without_download() -> dict[str, Any]:
    """A ResNet-18 from random weights, which stock allows with group norm only."""
    return {"pretrained_backbone_weights": None, "use_group_norm": True}


def _as_fields(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if name != "type"}


def count(method: str, task: Task) -> int:
    """Trained parameters of a method."""
    # A curriculum has no parameters, and the command line's words are not the objects a policy is built with.
    made = {name: value for name, value in fields(method, task).items() if name != "curriculum"}
    return parameters(made["type"], _as_fields(made), task.cameras)


def flags(made: dict[str, Any]) -> list[str]:
    """`--policy.…` for a console script."""
    return [f"--policy.{name}={_text(value)}" for name, value in made.items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
