# SPDX-License-Identifier: Apache-2.0
"""The one place where LeRobot's training loop is watched: it tells observers what a run measures and saves.

The loop itself is LeRobot's. Two names that its script looks up are replaced: `MetricsTracker` by a subclass,
which the loop tells each step and each log step, and `make_optimizer_and_scheduler`, `eval_policy_all`, by
functions that call the stock ones. An observer that fails is logged once and left out from then on: it must
never cost a training run.

`uninstall` puts everything back. Other LeRobot versions than those tested are left alone, with one line.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lerobot.utils.logging_utils import MetricsTracker

from lerobot_ext.patches import Patch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """One training in this process.

    Args:
        output_dir (`Path`): The run's folder; checkpoints are in `checkpoints` below it.
        first_step (`int`): Steps done before this process: 0, or those of the checkpoint it resumes.
        total_steps (`int`): `--steps`.
        is_main (`bool`): Whether this is the process that writes: rank 0.
        cfg (`Any`): LeRobot's `TrainPipelineConfig`.
    """

    output_dir: Path
    first_step: int
    total_steps: int
    is_main: bool
    cfg: Any


class LoopObserver:
    """What a training loop tells, on every rank; override what you need. `step` counts from 1."""

    def started(self, run: TrainingRun) -> None:
        """Everything is built, and loaded if the run is resumed; the first step comes next."""

    def stepped(self, run: TrainingRun, step: int) -> None:
        """A step is done; a few µs at most, please."""

    def logged(self, run: TrainingRun, step: int, metrics: Mapping[str, float]) -> None:
        """A log step: means since the one before, reduced over ranks (`samples_per_s` on rank 0 only)."""

    def eval_loss(self, run: TrainingRun, step: int, loss: float) -> None:
        """The loss on held-out episodes (`--eval_steps`), reduced over ranks."""

    def evaluated(self, run: TrainingRun, step: int, info: Mapping[str, Any]) -> None:
        """Episodes in the environment (`--env_eval_freq`), rank 0 only: the result of `eval_policy_all`."""

    def describe(self, run: TrainingRun, step: int) -> str:
        """Words to add to the line that the trainer logs for this step; may be empty."""
        return ""


_observers: list[LoopObserver] = []
_failed: set[int] = set()
_patch = Patch("training loop", lost="no metrics.csv, no time left")
_cfg: Any = None  # of a run whose tracker is not made yet
_tracker: "ObservedTracker | None" = None


def observe(observer: LoopObserver, script: ModuleType) -> None:
    """Tell `observer` from now on, once; the hooks are installed if they are not yet.

    Args:
        observer (`LoopObserver`): Whom to tell.
        script (`ModuleType`): `lerobot.scripts.lerobot_train`, under whatever name it runs.
    """
    if observer not in _observers:
        _observers.append(observer)
    install(script)


def forget(observer: LoopObserver) -> None:
    """Tell `observer` nothing any more; when nobody is left to be told, LeRobot gets its own code back."""
    if observer in _observers:
        _observers.remove(observer)
    _failed.discard(id(observer))
    if not _observers:
        uninstall()


def install(script: ModuleType) -> bool:
    """Put the hooks into the training script; calling it again changes nothing.

    Returns:
        Whether they are in place: not with a LeRobot outside the tested window, which is logged.
    """
    return _patch.install({(script, name): new for name, new in _REPLACEMENTS.items()})


def uninstall() -> None:
    """Give LeRobot its own code back and forget all observers."""
    global _cfg, _tracker
    _patch.uninstall()
    _observers.clear()
    _failed.clear()
    _cfg = _tracker = None


class ObservedTracker(MetricsTracker):  # type: ignore[misc]
    """LeRobot's tracker; the one that a training loop makes first tells the observers.

    Those that it makes later, for evaluations, are stock.
    """

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self.__dict__["_run"] = None  # stock's __setattr__ only knows names that are there
        _begin(self)

    def step(self) -> None:
        """Stock's; tells `stepped`."""
        super().step()
        if self._run is not None:
            _tell("stepped", self._run, self.steps)

    def reset_averages(self) -> None:
        """Stock's, which the loop calls right after a log step; tells `logged` first."""
        if self._run is not None:
            _tell("logged", self._run, self.steps, self.to_dict())
        super().reset_averages()

    def __str__(self) -> str:
        line = str(super().__str__())
        if self._run is None:
            return line
        return " ".join([line, *(word for word in _tell("describe", self._run, self.steps) if word)])


def _begin(tracker: ObservedTracker) -> None:
    """Tell that a run starts, if `tracker` is the first one since an optimizer was made."""
    global _cfg, _tracker
    if _cfg is None:
        return
    cfg, _cfg = _cfg, None
    accelerator = tracker.accelerator
    is_main = accelerator is None or accelerator.is_main_process
    run = TrainingRun(Path(cfg.output_dir), tracker.steps, cfg.steps, is_main, cfg)
    tracker.__dict__["_run"] = run
    _tracker = tracker
    if accelerator is not None and cfg.eval_steps > 0:
        accelerator.reduce = _reduce_that_tells(accelerator.reduce, tracker)
    _tell("started", run)


def _reduce_that_tells(reduce: Callable[..., Any], tracker: ObservedTracker) -> Callable[..., Any]:
    """An accelerator's `reduce` that tells `eval_loss`.

    The loop keeps the held-out loss to itself but for four digits in a log line. It is the one single number
    that it reduces; what the tracker reduces are vectors.
    """

    @functools.wraps(reduce)
    def telling(tensor: Any, reduction: str = "sum", *words: Any, **named: Any) -> Any:
        result = reduce(tensor, reduction, *words, **named)
        if reduction == "mean" and getattr(result, "ndim", None) == 0:
            _tell("eval_loss", tracker._run, tracker.steps, float(result))
        return result

    return telling


def _make_optimizer_and_scheduler(cfg: Any, policy: Any) -> Any:
    """Stock's; the place where the loop shows its config."""
    global _cfg
    _cfg = cfg
    return _patch.stock("make_optimizer_and_scheduler")(cfg, policy)


def _eval_policy_all(*words: Any, **named: Any) -> Any:
    """Stock's; tells `evaluated`, before the loop takes the result apart."""
    info = _patch.stock("eval_policy_all")(*words, **named)
    if _tracker is not None:
        _tell("evaluated", _tracker._run, _tracker.steps, info)
    return info


def _tell(event: str, *words: Any) -> list[Any]:
    """Call every observer's method `event` and collect the answers; one that fails is not called again."""
    answers = []
    for observer in list(_observers):
        if id(observer) in _failed:
            continue
        try:
            answers.append(getattr(observer, event)(*words))
        except Exception as error:  # noqa: BLE001 - a training must not end because a note could not be made
            _failed.add(id(observer))
            logger.error(
                "lerobot_ext: %s stopped working at %s (%s: %s); the training goes on without it.",
                type(observer).__name__,
                event,
                type(error).__name__,
                error,
            )
    return answers


_REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "MetricsTracker": ObservedTracker,
    "make_optimizer_and_scheduler": _make_optimizer_and_scheduler,
    "eval_policy_all": _eval_policy_all,
}
