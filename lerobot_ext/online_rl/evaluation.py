# SPDX-License-Identifier: Apache-2.0
"""The success curve: the policy on the same episodes every time; `online.csv` and `online.png`."""

from __future__ import annotations

import importlib.util
import logging
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lerobot.utils.random_utils import set_seed

from lerobot_ext.data.durable import replacing
from lerobot_ext.installing import install_command
from lerobot_ext.intervals import wilson_interval
from lerobot_ext.training.metrics_file import MetricsFile
from lerobot_ext.training.record import of_episodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .collecting import Pipelines

CURVE, PICTURE = "online.csv", "online.png"

logger = logging.getLogger(__name__)


def evaluate(
    env: Any, policy: Any, pipelines: Pipelines, episodes: int, seed: int, autocast: Any
) -> dict[str, float]:
    """Play episodes as `lerobot-eval` does.

    Args:
        env: Vector environment.
        policy: What acts, without exploration.
        pipelines (`Pipelines`): Around it.
        episodes (`int`): How many.
        seed (`int`): Of the first; the others count up from it.
        autocast: Context of the run's precision.

    Returns:
        `dict`: `env/pc_success`, `env/n_episodes`, `env/avg_sum_reward`, and `env/success_low` and
        `env/success_high`, the 95 % Wilson interval in per cent.
    """
    from lerobot.scripts.lerobot_eval import eval_policy

    set_seed(seed)
    with torch.no_grad(), autocast, _without_bars():
        info = eval_policy(
            env,
            policy,
            pipelines.env_pre,
            pipelines.env_post,
            pipelines.pre,
            pipelines.post,
            n_episodes=episodes,
            start_seed=seed,
        )
    policy.reset()
    found = of_episodes({"overall": {**info["aggregated"], "n_episodes": episodes}})
    successes = round(found["env/pc_success"] * episodes / 100)
    low, high = wilson_interval(successes, episodes)
    return found | {"env/success_low": 100 * low, "env/success_high": 100 * high}


class SuccessCurve:
    """`online.csv` of a run, a row an evaluation, by steps of the environment; and its picture.

    Args:
        folder (`Path`): Of the run.
        first_step (`int`): Rows of later steps are dropped: a resumed run measures them again.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self.folder = folder
        self._file = MetricsFile(folder / CURVE, first_step)
        self._said = False

    def add(self, env_steps: int, figures: dict[str, float]) -> None:
        """Write a row and draw the curve anew."""
        self._file.write(env_steps, {"time": round(time.time(), 3), **figures})
        self._draw()

    def _draw(self) -> None:
        if importlib.util.find_spec("matplotlib") is None:
            if not self._said:
                plots = install_command("lerobot_ext[plot]")
                logger.info("no %s: `%s`; %s is written.", PICTURE, plots, CURVE)
            self._said = True
            return
        from lerobot_ext.training.plot.figure import Look, draw
        from lerobot_ext.training.plot.runs import load_runs

        runs = load_runs([f"{self.folder.name}={self.folder / CURVE}"])
        with replacing(self.folder / PICTURE) as new:
            draw(runs, Look(metrics=("env/avg_sum_reward",))).savefig(new, dpi=110)


@contextmanager
def _without_bars() -> Iterator[None]:
    """LeRobot's own bars would run through ours."""
    from lerobot.scripts import lerobot_eval

    from lerobot_ext.patches import replaced

    stock = lerobot_eval.trange
    with replaced(lerobot_eval, trange=lambda *words, **named: stock(*words, **{**named, "disable": True})):
        yield
