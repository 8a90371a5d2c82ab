# SPDX-License-Identifier: Apache-2.0
"""Keeps what the trainer measures: `metrics.csv` and TensorBoard events, beside the checkpoints."""

import importlib.util
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lerobot_ext.installing import install_command
from lerobot_ext.training.loop import LoopObserver, TrainingRun
from lerobot_ext.training.metrics_file import MetricsFile

FILE_NAME = "metrics.csv"
EVENTS_FOLDER = "tensorboard"
# LeRobot's counters that follow from the step, and what they are called here.
_RENAMED = {"steps": None, "episodes": None, "epochs": "epoch"}

logger = logging.getLogger(__name__)


class CsvRecorder(LoopObserver):
    """Writes `metrics.csv` into the run's folder, on rank 0.

    Args:
        clock (`Callable`, *optional*): Seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._file: MetricsFile | None = None

    def started(self, run: TrainingRun) -> None:
        """Open the file; what a resumed run will measure again is taken out of it."""
        self._file = MetricsFile(run.output_dir / FILE_NAME, run.first_step) if run.is_main else None

    def logged(self, run: TrainingRun, step: int, metrics: Mapping[str, float]) -> None:
        """Write the row of a log step."""
        self._write(step, {"time": round(self._clock(), 3)} | named(metrics))

    def eval_loss(self, run: TrainingRun, step: int, loss: float) -> None:
        """Add to the row of this step."""
        self._write(step, {"eval_loss": loss})

    def evaluated(self, run: TrainingRun, step: int, info: Mapping[str, Any]) -> None:
        """Add to the row of this step."""
        self._write(step, of_episodes(info))

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if self._file is not None:
            self._file.write(step, values)


class EventRecorder(LoopObserver):
    """Writes TensorBoard events into the run's folder, on rank 0; one line says so if it is missing."""

    def __init__(self) -> None:
        self._writer: Any = None

    def started(self, run: TrainingRun) -> None:
        """Open the events; of a resumed run, TensorBoard is told to forget what is measured again."""
        self._writer = None
        if not run.is_main:
            return
        if importlib.util.find_spec("tensorboard") is None:
            logger.info(
                "lerobot_ext: no TensorBoard events: `%s`. %s is written all the same.",
                install_command("lerobot_ext[tensorboard]"),
                FILE_NAME,
            )
            return
        # Imported here: it takes a second, and only who has it pays.
        from torch.utils.tensorboard import SummaryWriter

        purge = run.first_step + 1 if run.first_step else None
        self._writer = SummaryWriter(str(run.output_dir / EVENTS_FOLDER), purge_step=purge)

    def logged(self, run: TrainingRun, step: int, metrics: Mapping[str, float]) -> None:
        """Add the metrics of a log step."""
        self._add(step, {f"train/{name}": value for name, value in named(metrics).items()})

    def eval_loss(self, run: TrainingRun, step: int, loss: float) -> None:
        """Add the held-out loss."""
        self._add(step, {"eval/loss": loss})

    def evaluated(self, run: TrainingRun, step: int, info: Mapping[str, Any]) -> None:
        """Add the results of the environment."""
        self._add(step, of_episodes(info))

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is None:
            return
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()


def named(metrics: Mapping[str, float]) -> dict[str, float]:
    """A tracker's metrics under the names of our columns; counters that say nothing new are left out."""
    kept = {_RENAMED.get(name, name): value for name, value in metrics.items()}
    return {name: value for name, value in kept.items() if name is not None}


def of_episodes(info: Mapping[str, Any]) -> dict[str, float]:
    """The figures of `eval_policy_all`'s result: overall, and of each suite if there are several.

    Args:
        info (`Mapping`): `overall` and `per_group`, each with `n_episodes`, `pc_success`, `avg_sum_reward`.

    Returns:
        `env/pc_success`, `env/n_episodes`, `env/avg_sum_reward`, and `env/SUITE/…`; what is no number is left
        out.
    """
    groups = {"env": info["overall"]}
    if len(info.get("per_group", {})) > 1:
        groups |= {f"env/{name}": figures for name, figures in info["per_group"].items()}
    found = {
        f"{place}/{name}": figures[name]
        for place, figures in groups.items()
        for name in ("pc_success", "n_episodes", "avg_sum_reward")
        if name in figures
    }
    return {name: value for name, value in found.items() if not math.isnan(value)}


def metrics_path(run: Path) -> Path:
    """Where the metrics of a run are: the file itself, or the one in the run's folder."""
    return run / FILE_NAME if run.is_dir() else run
