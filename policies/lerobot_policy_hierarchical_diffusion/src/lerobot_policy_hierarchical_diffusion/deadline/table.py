# SPDX-License-Identifier: Apache-2.0
"""What the parts of a plan cost on one machine, and what each choice of parts is worth; kept as JSON.

`latency.json` lies beside the checkpoint's weights. The costs hold for the machine they were measured on; the
values are the policy's and hold everywhere.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

FILE_NAME = "latency.json"
STEP_CHOICES = (0, 1, 2, 4, 8, 16)
"""Numbers of denoising steps between which a budget chooses."""


@dataclass(frozen=True)
class Choice:
    """One way to plan.

    Args:
        layers (`int`): How many layers run, in priority order.
        steps (`int`): Denoising steps.
    """

    layers: int
    steps: int


@dataclass(frozen=True)
class Costs:
    """95th percentile, in ms, of each part of a plan for one observation.

    Args:
        machine (`str`): Where they were measured, from `machine_name`.
        encode_ms (`float`): Observation, cameras and task text, once a plan.
        layers_ms (`tuple[float, ...]`): Each layer, in priority order.
        condition_ms (`float`): Fusing the layers, and filtering the plan.
        step_ms (`float`): One denoising step.
    """

    machine: str
    encode_ms: float
    layers_ms: tuple[float, ...]
    condition_ms: float
    step_ms: float

    def of(self, choice: Choice) -> float:
        """Cost of a choice in ms."""
        fixed = self.encode_ms + self.condition_ms + sum(self.layers_ms[: choice.layers])
        return fixed + choice.steps * self.step_ms


@dataclass(frozen=True)
class LatencyTable:
    """Costs of one machine, and the error that each choice leaves.

    Args:
        costs (`Costs`): What the parts cost.
        errors (`dict[Choice, float]`): Mean error of the planned actions on held-out demonstrations, in the
            normalised action space; empty when it was not measured.
    """

    costs: Costs
    errors: dict[Choice, float] = field(default_factory=dict)

    def save(self, folder: Path) -> Path:
        """Write `latency.json` into a checkpoint's folder; a reader never sees half of it."""
        content = asdict(self.costs) | {
            "errors": [asdict(choice) | {"error": error} for choice, error in self.errors.items()]
        }
        path = folder / FILE_NAME
        new = path.with_suffix(".new")
        new.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(new, path)
        return path

    @classmethod
    def load(cls, folder: Path, layers: int) -> LatencyTable | None:
        """Read a checkpoint's table.

        Args:
            folder (`Path`): The checkpoint.
            layers (`int`): How many layers the policy has.

        Returns:
            The table; None if there is none.

        Raises:
            ValueError: The file is not a table of such a policy.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            errors = {
                Choice(int(row["layers"]), int(row["steps"])): float(row["error"])
                for row in content.pop("errors")
            }
            costs = Costs(**content | {"layers_ms": tuple(map(float, content["layers_ms"]))})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path} is no latency table ({type(error).__name__}: {error}); run `lerobot-ext latency "
                f"--policy.path={folder}` to write it anew."
            ) from error
        if len(costs.layers_ms) != layers:
            raise ValueError(
                f"{path} has {len(costs.layers_ms)} layers and the policy {layers}; run `lerobot-ext latency "
                f"--policy.path={folder}` to write it anew."
            )
        return cls(costs, errors)


def choices(layers: Sequence[str], most_steps: int, *, draft: bool = True) -> list[Choice]:
    """All ways to plan, the ones with the fewest layers first.

    Args:
        layers (`Sequence[str]`): The policy's layers in priority order; a safety layer always runs.
        most_steps (`int`): Most denoising steps.
        draft (`bool`, *optional*, defaults to `True`): Whether 0 steps will do where the manipulation layer
            runs: its draft is then the plan.
    """
    steps = sorted({step for step in STEP_CHOICES if step <= most_steps} | {most_steps})
    drafts_from = layers.index("manipulation") + 1 if draft and "manipulation" in layers else len(layers) + 1
    fewest = int("safety" in layers)
    return [
        Choice(count, step)
        for count in range(fewest, len(layers) + 1)
        for step in steps
        if step or count >= drafts_from
    ]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(1000 * share) * len(ordered) // 1000) - 1))]


@lru_cache
def machine_name(device: str, threads: int) -> str:
    """What costs depend on: device, processor, threads, torch."""
    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor()
    return f"{device.split(':')[0]} {name}, {threads} threads, torch {torch.__version__}"


def from_samples(machine: str, samples: Sequence[Mapping[str, float]], layers: Sequence[str]) -> Costs:
    """Costs from the measured parts of many plans.

    Args:
        machine (`str`): From `machine_name`.
        samples (`Sequence[Mapping[str, float]]`): Each plan's ms by part: `encode`, each layer, `condition`,
            `filter` and `step`.
        layers (`Sequence[str]`): The layers in priority order.
    """

    def p95(part: str) -> float:
        return percentile([sample[part] for sample in samples], 0.95)

    around = [sample["condition"] + sample["filter"] for sample in samples]
    each = tuple(p95(name) for name in layers)
    return Costs(machine, p95("encode"), each, percentile(around, 0.95), p95("step"))


def _processor() -> str:
    """The processor's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named: list[Any] = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return str(named[0]) if named else platform.processor() or platform.machine()
