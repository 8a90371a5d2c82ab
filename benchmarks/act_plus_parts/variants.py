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
    "optimizer_lr": 1e-3,
}
"""Small enough for a CPU; the same for all, stock ACT included."""

JOIN = {"join_steps": 6, "commit_steps": 2}
PREFIX = {"prefix_steps": 10, "commit_steps": 2}
TOLD = {"advantage": "sign"}
SCRATCH = {"backbone_norm": "group"}
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
    "act_rtc": Variant(flags=JOIN, weights="ACT (stock)"),
    "act_prefix": Variant(flags=PREFIX),
    "act_prefix_join": Variant(flags={**PREFIX, **JOIN}, weights="act_prefix"),
    "act_blend": Variant(flags={"blend_steps": 6}, weights="ACT (stock)"),
    "act_ensemble": Variant(flags={"temporal_ensemble_coeff": 0.01}, weights="ACT (stock)"),
    "act_relative": Variant(flags={"use_relative_actions": True}),
    "act_language": Variant(flags={"task_conditioning": "text"}),
    "act_index": Variant(flags={"task_conditioning": "index"}),
    "act_advantage": Variant(flags=TOLD),
    "act_guided": Variant(flags={**TOLD, "guidance": 2.0}, weights="act_advantage"),
    "act_flow": Variant(flags={**FLOW, "flow_target": "actions"}),
    "act_flow_draft": Variant(flags={**FLOW, "flow_target": "actions", "flow_start": "draft"}),
    "act_flow_draws": Variant(flags={**FLOW, "flow_target": "actions", "flow_draws": 4}),
    "act_flow_prefix": Variant(flags={**FLOW, "flow_target": "actions", "flow_draws": 4, **PREFIX}),
    "act_group": Variant(flags=SCRATCH),
    "act_depth_early": Variant(flags={**SCRATCH, "depth_fusion": "early"}),
}


@dataclass(frozen=True)
class Setting:
    """What is played, and how a policy is trained for it.

    Args:
        task (`str`): Of the Koch environment.
        policies (`tuple[str, ...]`): Of `VARIANTS`.
        demonstrations (`int`): Scripted episodes.
        steps (`int`): Training steps, the same for all policies.
        belt_m_s (`float`): Speed of the table's top.
        delays_ms (`tuple[int, ...]`): Played with, in both loops; without any, one without delay.
        size (`dict`): Fields of the policies beside `SIZE`.
        batch (`int`): Frames of a training step.
        skill (`str`): Of the demonstrators; of `mixed` ones the failures are kept.
        picture (`int`): Rows and columns of the camera `top`, which then stands for the environment state;
            0 without cameras.
    """

    task: str
    policies: tuple[str, ...]
    demonstrations: int
    steps: int
    belt_m_s: float = 0.0
    delays_ms: tuple[int, ...] = ()
    size: dict[str, Any] = field(default_factory=dict)
    batch: int = 32
    skill: str = "expert"
    picture: int = 0


REAL_TIME = ("act_rtc", "act_prefix", "act_prefix_join", "act_flow_prefix", "act_blend")
"""Those that are handed what is left of a chunk; any other acts alike in both loops without delay."""

SETTINGS = {
    "belt": Setting(
        "lift",
        ("ACT (stock)", *REAL_TIME, "act_ensemble", "act_relative"),
        demonstrations=100,
        steps=2500,
        belt_m_s=0.03,
        delays_ms=(0, 100, 300),
    ),
    "lift": Setting("lift", ("ACT (stock)", "act_rtc"), 50, 2000, delays_ms=(0, 300)),
    "choose": Setting("choose", ("ACT (stock)", "act_language", "act_index"), 400, 1500),
    "either": Setting("either", ("ACT (stock)", "act_flow", "act_flow_draws", "act_flow_draft"), 1000, 4000),
    "around": Setting(
        "around",
        ("ACT (stock)", "act_flow"),
        2000,
        5000,
        size={"n_action_steps": CHUNK},
        batch=128,
    ),
    "mixed": Setting("lift", ("ACT (stock)", "act_advantage", "act_guided"), 150, 2500, skill="mixed"),
    "depth": Setting(
        "reach",
        ("ACT (stock)", "act_group", "act_depth_early"),
        demonstrations=400,
        steps=2000,
        size={"optimizer_lr": 3e-4},
        picture=64,
    ),
}
"""`belt`: the cube travels, so that an arm that waits comes too late. `choose`: the instruction alone says
which side counts. `either`: demonstrators go left or right by whim, which leaves an L1 loss any place
between them; where the flow starts from a draft, that is an L1 loss's plan. `around`: one of three ways by
whim, whose median is a place that ends the episode; chunks are run whole, as stock ACT does, and there are
too many episodes to learn the whims by heart. `mixed`: a third each of the demonstrators are expert, clumsy
and random; the advantage tells who was sooner done than most. `depth`: the goal floats, and one camera is
all that tells where, by which a small ball's distance is hard to see; no pretrained weights."""

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
    """All cells whose name holds a text, or one of several by commas, the seeds one after the other."""
    made = []
    for seed in range(seeds):
        for name, setting in SETTINGS.items():
            for variant in setting.policies:
                made += [Cell(name, variant, seed, mode, delay) for mode, delay in ways(setting, variant)]
    return [cell for cell in made if any(text in cell.name for text in only.split(","))]


def ways(setting: Setting, variant: str) -> list[tuple[str, int]]:
    """Loops and delays that a policy is played with; not those that cannot differ from others."""
    if not setting.delays_ms:
        return [("sync", 0)]
    most = max(setting.delays_ms)
    if variant == "act_ensemble":  # of `select_action`; a plan by itself is stock ACT's
        return [("sync", 0), ("sync", most)]
    if variant in REAL_TIME:
        return [("sync", 0), ("sync", most), *(("rtc", delay) for delay in setting.delays_ms)]
    return [(mode, delay) for mode in MODES for delay in setting.delays_ms if (mode, delay) != ("rtc", 0)]


def recipe(task: str, variant: str, seed: int) -> dict[str, Any]:
    """All that decides what a training gives, but for the code."""
    setting = SETTINGS[task]
    fields = {**SIZE, **setting.size, **VARIANTS[variant].flags}
    return {
        "task": setting.task,
        "belt_m_s": setting.belt_m_s,
        "skill": setting.skill,
        "demonstrations": setting.demonstrations,
        "steps": setting.steps,
        "batch": setting.batch,
        "kind": VARIANTS[variant].kind,
        "fields": fields,
        "seed": seed,
        **({"picture": setting.picture} if setting.picture else {}),
    }
