# SPDX-License-Identifier: Apache-2.0
"""What `lerobot-ext plot` reads: `metrics.csv` of a run, and `eval_info.json` of `lerobot-eval`."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lerobot_ext.cli.command import CommandError
from lerobot_ext.hub.history import Evaluation, evaluations_of
from lerobot_ext.intervals import wilson_interval
from lerobot_ext.training.metrics_file import MetricsFileError, read_metrics

METRICS, EVAL = "metrics.csv", "eval_info.json"
SUCCESS, EPISODES = "env/pc_success", "env/n_episodes"
X_AXES = ("step", "time", "epoch", "samples")


@dataclass(frozen=True)
class Run:
    """One run, or one evaluation.

    Args:
        name (`str`): What it is called in the picture.
        path (`Path`): Where it was read from.
        columns (`tuple[str, ...]`): Metrics in its `metrics.csv`.
        rows (`dict[int, dict[str, float]]`): Their values by step, in rising order.
        evaluations (`tuple[Evaluation, ...]`): What `lerobot-eval` found, a task each.
    """

    name: str
    path: Path
    columns: tuple[str, ...]
    rows: dict[int, dict[str, float]]
    evaluations: tuple[Evaluation, ...]

    def curve(self, metric: str, x: str = "step") -> tuple[list[float], list[float]]:
        """The points of a metric: `x` in steps, epochs, samples, or hours since the first row.

        Returns:
            Two lists of one length; rows without the metric, or without `x`, are left out.
        """
        points = [
            (float(step) if x == "step" else row[x], row[metric])
            for step, row in self.rows.items()
            if metric in row and (x == "step" or x in row)
        ]
        if x == "time" and points:
            start = next(row["time"] for row in self.rows.values() if "time" in row)
            points = [((at - start) / 3600, value) for at, value in points]
        return [at for at, _ in points], [value for _, value in points]

    def successes(self) -> list[tuple[int, int, int]]:
        """Step, successes and episodes of each evaluation during the training."""
        return [
            (step, round(row[SUCCESS] * row[EPISODES] / 100), int(row[EPISODES]))
            for step, row in self.rows.items()
            if row.get(EPISODES, 0) > 0 and SUCCESS in row
        ]

    def final_evaluations(self) -> tuple[Evaluation, ...]:
        """What there is to show of its success: of `lerobot-eval`, else the last one during the training."""
        if self.evaluations or not self.successes():
            return self.evaluations
        step, successes, episodes = self.successes()[-1]
        return (Evaluation("during training", successes, episodes, step=step),)


def load_runs(words: Sequence[str]) -> list[Run]:
    """Read runs.

    Args:
        words (`Sequence[str]`): Each a path, or `NAME=PATH`.

    Raises:
        CommandError: There is nothing to show at a path, or a file is damaged.
    """
    runs = [_load(word) for word in words]
    names = [run.name for run in runs]
    return [
        replace(run, name=f"{run.path.parent.name}/{run.name}") if names.count(run.name) > 1 else run
        for run in runs
    ]


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving mean without the pull towards 0 at its beginning; NaN is shown and not remembered.

    Args:
        values (`Sequence[float]`): In order.
        weight (`float`): Of what came before, in [0, 1); 0 changes nothing.
    """
    mean, total, smoothed = 0.0, 0.0, []
    for value in values:
        if not math.isfinite(value):
            smoothed.append(value)
            continue
        mean = weight * mean + (1 - weight) * value
        total = weight * total + (1 - weight)
        smoothed.append(mean / total)
    return smoothed


def rate_text(successes: int, episodes: int) -> str:
    """A success rate with its 95 % interval."""
    low, high = wilson_interval(successes, episodes)
    return f"{successes}/{episodes} ({100 * low:.0f}-{100 * high:.0f} %)"


def _load(word: str) -> Run:
    name, equals, rest = word.partition("=")
    named = bool(equals) and bool(name) and not Path(word).exists()
    path = Path(rest if named else word).expanduser()
    if not path.exists():
        raise CommandError(f"there is no {path}", "name the --output_dir of a training or an evaluation")
    folder = path if path.is_dir() else path.parent
    columns: list[str] = []
    rows: dict[int, dict[str, float]] = {}
    metrics = path / METRICS if path.is_dir() else path
    if metrics.suffix == ".csv" and metrics.is_file():
        try:
            columns, rows = read_metrics(metrics)
        except MetricsFileError as error:
            raise CommandError(str(error), "name a run's folder or its metrics.csv") from None
    evaluations = _evaluations(path)
    if not rows and not evaluations:
        raise CommandError(
            f"{path} holds neither a {METRICS} with a row nor an {EVAL}",
            "runs are recorded where lerobot_ext is installed (not with LEROBOT_EXT_METRICS=off), "
            "from their first --log_freq steps on",
        )
    return Run(name if named else folder.resolve().name, path, tuple(columns), rows, evaluations)


def _evaluations(path: Path) -> tuple[Evaluation, ...]:
    """The evaluations at, or below `eval*` of, a folder; or in the file itself."""
    if path.is_file():
        files = [path] if path.suffix == ".json" else []
    else:
        files = sorted([*path.glob(EVAL), *path.glob(f"eval*/**/{EVAL}")])
    found = []
    for file in files:
        try:
            entries = evaluations_of(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, UnicodeDecodeError) as error:
            raise CommandError(
                f"{file} is damaged: {error}", "run lerobot-eval again, or move it away"
            ) from None
        place = file.parent.relative_to(path) if path.is_dir() else Path()
        found += [replace(entry, task=" ".join([*place.parts, entry.task])) for entry in entries]
    return tuple(found)
