# SPDX-License-Identifier: Apache-2.0
"""What is compared on which tasks, and how much of it: the numbers of the full run and of `--quick`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

OURS = "ours"
EVAL_SEED = 100_000
"""First seed of the evaluated episodes; demonstrations have seeds below 10,000."""


@dataclass(frozen=True)
class Task:
    """A task of the simulated Koch, its data, and at which steps of a training it is evaluated.

    Args:
        name (`str`): Name in results.
        koch (`str`): `--env.task` and `--task`.
        cameras (`bool`): Two cameras of 96 x 96 instead of the environment state.
        demos (`int`): Demonstrations trained on.
        held_out (`int`): Demonstrations that nobody trains on.
        batch (`int`): Samples of a training step.
        points (`tuple[int, ...]`): Steps at which checkpoints are evaluated; the last one ends the training.
        why (`str`): Why these points.
    """

    name: str
    koch: str
    cameras: bool
    demos: int
    held_out: int
    batch: int
    points: tuple[int, ...]
    why: str

    @property
    def observation(self) -> str:
        """`--env.obs`."""
        return "pixels" if self.cameras else "state"


TASKS = {
    task.name: task
    for task in (
        Task(
            "lift",
            "lift",
            cameras=False,
            demos=50,
            held_out=100,
            batch=64,
            points=(200, 400, 800),
            why="ours lifts nearly always after 400 steps; a stock U-Net begins to at 800",
        ),
        Task(
            "choose",
            "choose",
            cameras=False,
            demos=200,
            held_out=30,
            batch=64,
            points=(400, 1000),
            why="only the instruction tells left from right; its episodes are short, 18 frames",
        ),
        Task(
            "tour",
            "tour",
            cameras=False,
            demos=100,
            held_out=30,
            batch=64,
            points=(800, 1600),
            why="needs memory: at rest in the middle nothing that can be seen tells where to go next",
        ),
        Task(
            "lift_cameras",
            "lift",
            cameras=True,
            demos=50,
            held_out=30,
            batch=32,
            points=(200, 400),
            why="ours lifts 4 of 10 after 200 and 8 of 10 after 400; stock takes 14 minutes of a core",
        ),
    )
}


@dataclass(frozen=True)
class Settings:
    """One run of the benchmark.

    Args:
        out (`Path`): Where everything is kept.
        tasks (`tuple[Task, ...]`): Tasks.
        methods (`tuple[str, ...]`): Names of `METHODS`.
        seeds (`tuple[int, ...]`): Training seeds.
        episodes (`int`): Evaluated episodes of each training and point.
        device (`str`): Where everything is computed.
        nice (`int`): Niceness of the subprocesses.
        noise_draws (`int`): Noises and times of each held-out frame.
        plans (`int`): Plans that are timed for each case.
        quick (`bool`): Whether the figures mean nothing.
    """

    out: Path
    tasks: tuple[Task, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = 100
    device: str = "cpu"
    nice: int = 0
    noise_draws: int = 8
    plans: int = 300
    quick: bool = False

    @property
    def eval_batch(self) -> int:
        """Robots that are evaluated side by side."""
        return min(50, self.episodes)


def quick(settings: Settings) -> Settings:
    """The same in less than a minute: shows that everything runs, and nothing else."""
    small = replace(TASKS["lift"], demos=3, held_out=2, batch=8, points=(4,))
    return replace(
        settings,
        tasks=(small,),
        methods=tuple(name for name in settings.methods if name in (OURS, "stock")),
        seeds=(0,),
        episodes=2,
        noise_draws=2,
        plans=10,
        quick=True,
    )
