# SPDX-License-Identifier: Apache-2.0
"""What is compared: policies, tasks and the cells of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CHUNK, RUN = 24, 12
"""Length of a chunk and how many of its actions are run, of every policy."""

SIZE: dict[str, Any] = {
    "device": "cpu",
    "chunk_size": CHUNK,
    "n_action_steps": RUN,
    "dim_model": 128,
    "n_heads": 4,
    "dim_feedforward": 256,
    "n_encoder_layers": 2,
    "use_vae": False,
    "dropout": 0.0,
    "optimizer_lr": 5e-4,
}
"""Small enough for a CPU; the same for all, stock ACT included."""

RTC = {"prefix_steps": 10, "commit_steps": 3}
FLOW = {"head": "flow", "flow_steps": 10, "n_decoder_layers": 2}


@dataclass(frozen=True)
class Variant:
    """A policy of the benchmark.

    Args:
        kind (`str`): Registered type.
        flags (`dict`): Fields beside `SIZE`.
        weights (`str`): The variant whose training it uses; its own if empty.
    """

    kind: str = "act_plus"
    flags: dict[str, Any] = field(default_factory=dict)
    weights: str = ""


VARIANTS = {
    "ACT (stock)": Variant("act"),
    "act": Variant(weights="ACT (stock)"),
    "act_rtc": Variant(flags=RTC),
    "act_blend": Variant(flags={"blend_steps": 6}, weights="ACT (stock)"),
    "act_ensemble": Variant(flags={"temporal_ensemble_coeff": 0.01}, weights="ACT (stock)"),
    "act_relative": Variant(flags={"use_relative_actions": True}),
    "act_language": Variant(flags={"task_conditioning": "text"}),
    "act_index": Variant(flags={"task_conditioning": "index"}),
    "act_advantage": Variant(flags={"advantage": "sign"}),
    "act_flow": Variant(flags=FLOW),
    "act_flow_draft": Variant(flags={**FLOW, "flow_start": "draft"}),
    "act_flow_rtc": Variant(flags={**FLOW, **RTC}),
}

TASKS: dict[str, tuple[str, ...]] = {
    "lift": tuple(name for name in VARIANTS if name not in ("act", "act_index", "act_flow_draft")),
    "choose": ("ACT (stock)", "act_language", "act_index"),
    "either": ("ACT (stock)", "act_flow", "act_flow_draft"),
}
"""Which policies play which task of the Koch environment."""

EPISODES = {"lift": 50, "choose": 400, "either": 400}
"""Demonstrations."""
STEPS = {"lift": 2000, "choose": 1500, "either": 2000}
"""Training steps."""
BATCH = 32

DELAYS_MS = (0, 100, 300)
MODES = ("sync", "rtc")


@dataclass(frozen=True)
class Cell:
    """One measurement: a policy trained with a seed, on a task, played in a mode with a delay."""

    task: str
    variant: str
    seed: int
    mode: str
    delay_ms: int

    @property
    def name(self) -> str:
        """Its file's name."""
        return f"{self.training}__{self.mode}_{self.delay_ms}ms"

    @property
    def training(self) -> str:
        """Name of the policy it plays."""
        return training_name(self.task, self.variant, self.seed)


def training_name(task: str, variant: str, seed: int) -> str:
    """Name of a variant's policy on a task."""
    plain = "".join(letter if letter.isalnum() or letter == "_" else "-" for letter in variant).strip("-")
    return f"{task}__{plain}__{seed}"


def cells(seeds: int, only: str = "") -> list[Cell]:
    """All cells: every delay in both modes for lift, none for the tasks that are about something else."""
    made = []
    for task, variants in TASKS.items():
        for variant in variants:
            for seed in range(seeds):
                ways = [(m, d) for m in MODES for d in DELAYS_MS] if task == "lift" else [("sync", 0)]
                made += [Cell(task, variant, seed, mode, delay) for mode, delay in ways]
    return [cell for cell in made if only in cell.name]
