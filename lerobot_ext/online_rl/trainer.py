# SPDX-License-Identifier: Apache-2.0
"""The loop of an online run: collect, learn what is owed for it, evaluate, save.

Which of them comes next follows from `Progress` alone, so that the loop can stop at any update or episode and
go on from there. Episodes are collected whole, with one state of the policy; the updates for them follow.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lerobot.utils.constants import REWARD
from lerobot.utils.logging_utils import AverageMeter, MetricsTracker
from lerobot.utils.random_utils import set_seed

from lerobot_ext.cli.command import CommandError
from lerobot_ext.training.metrics_file import MetricsFile
from lerobot_ext.training.record import FILE_NAME, named

from . import checkpoints, mixing
from .checkpoints import Progress
from .collecting import Collector, InterruptedRoundError, Pipelines
from .episode import Episode
from .evaluation import SuccessCurve, evaluate
from .prior import prior_batches
from .replay import Replay
from .replay_dataset import ReplayDataset
from .rewards import RewardRule, rule_of_episode
from .settings import OnlineSettings

logger = logging.getLogger(__name__)

_RECENT = 20
_EPISODES, _POLICY, _UPDATES = 1, 2, 4  # purposes of random numbers; 3 is `mixing.draw`'s


@dataclass
class Parts:
    """Everything a run works with; see `building`.

    Args:
        cfg: LeRobot's `TrainPipelineConfig`, for the checkpoints.
        policy: In training, prepared by `accelerator`.
        optimizer: Its.
        accelerator: Of one process.
        pipelines (`Pipelines`): Around the policy.
        dataset: The prior data, a `LeRobotDataset` with the policy's windows.
        replay (`Replay`): Collected episodes.
        disk (`ReplayDataset`): The same on disk.
        env, eval_env: Vector environments.
        paid (`RewardRule`): How the prior data were paid; None where the policy makes its own rewards.
    """

    cfg: Any
    policy: Any
    optimizer: Any
    accelerator: Any
    pipelines: Pipelines
    dataset: Any
    replay: Replay
    disk: ReplayDataset
    env: Any
    eval_env: Any
    paid: RewardRule | None


@dataclass
class Report:
    """What a run tells while it goes on.

    Args:
        progress (`Progress`): What is done.
        success (`float`): Share of the last episodes that succeeded.
        evaluation (`dict`): Figures of the last evaluation.
        metrics (`dict`): Of the last logged row.
    """

    progress: Progress
    success: float = 0.0
    evaluation: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


class Trainer:
    """An online run.

    Args:
        parts (`Parts`): What it works with.
        settings (`OnlineSettings`): What it is.
        folder (`Path`): Where its files go.
        progress (`Progress`, *optional*): What is done, of a resumed run.
        stop (`Callable`, *optional*): Asked between updates and frames whether to stop.
        tell (`Callable`, *optional*): Called with a `Report` after each update, episode and evaluation.
    """

    def __init__(
        self,
        parts: Parts,
        settings: OnlineSettings,
        folder: Path,
        progress: Progress | None = None,
        stop: Callable[[], bool] = lambda: False,
        tell: Callable[[Report], None] = lambda report: None,
    ) -> None:
        self.parts, self.settings, self.folder, self.stop = parts, settings, folder, stop
        self.progress = progress or Progress(recent=[])
        self.report = Report(self.progress)
        self._tell = tell
        self._collector = Collector(
            parts.env, self._policy, parts.pipelines, settings.exploration_noise, stop
        )
        self._seen = RewardRule()
        self._saved: list[Episode] = []
        self._prior: Iterator[dict[str, Any]] | None = None
        self._metrics = MetricsFile(folder / FILE_NAME, self.progress.env_steps)
        self._curve = SuccessCurve(folder, self.progress.env_steps)
        self._tracker = self._new_tracker()
        self._restore()

    @property
    def _policy(self) -> Any:
        return self.parts.accelerator.unwrap_model(self.parts.policy)

    def run(self) -> bool:
        """Go on until all is done.

        Returns:
            Whether it is; else `stop` ended it. Either way the last state is saved.

        Raises:
            CommandError: The environment pays other rewards than the prior data.
        """
        try:
            while not self.stop():
                if not self._next():
                    self._save()
                    return True
            self._save()
            return False
        finally:
            self.parts.disk.close()

    def _next(self) -> bool:
        """Do what comes next; False when all is done."""
        done, settings = self.progress, self.settings
        if done.updates < settings.owed(done.env_steps):
            self._update()
        elif self._due(done.evaluated_at, settings.eval_freq):
            self._evaluate()
        elif done.env_steps // settings.log_freq > done.logged_at // settings.log_freq:
            self._log()
        elif done.env_steps // settings.save_freq > done.saved_at // settings.save_freq:
            done.saved_at = done.env_steps
            self._save()
        elif done.env_steps < settings.online_steps:
            try:
                self._collect()
            except InterruptedRoundError:
                logger.info("the running episode is given up.")
        else:
            return False
        return True

    def _due(self, at: int, every: int) -> bool:
        """Whether an evaluation is due: at first, every so many steps, and at the end."""
        if every == 0:
            return False
        steps = self.progress.env_steps
        at_end = steps >= self.settings.online_steps and at < steps
        return at < 0 or steps // every > at // every or at_end

    # ---- collecting --------------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Take the episodes that are done into memory; what lies on disk beyond them is used when due."""
        self._saved = self.parts.disk.load()
        done = self.progress.episodes
        if len(self._saved) < done:
            raise CommandError(
                f"{self.parts.disk.root} has {len(self._saved)} episodes, and the checkpoint knows {done}",
                "put the folder back as it was, or begin anew with another --output_dir",
            )
        for episode in self._saved[:done]:
            self._take(episode)
        self._saved = self._saved[done:]
        if done:
            self._show_episodes()
        if self._saved:
            logger.info("%d episodes lie beyond the checkpoint and are used again.", len(self._saved))

    def _collect(self) -> None:
        count, first = self.settings.n_envs, self.progress.episodes
        if len(self._saved) >= count:  # of the run that was cut off: the very same ones
            episodes, self._saved = self._saved[:count], self._saved[count:]
        else:
            seed = self.settings.seed
            seeds = [mixing.stream(seed, _EPISODES, first + number) for number in range(count)]
            episodes = self._collector.round(seeds, mixing.stream(seed, _POLICY, first))
            for number, episode in enumerate(episodes):
                self._check_rewards(episode)
                if number < len(self._saved):  # cut off within a round
                    episodes[number] = self._saved[number]
                else:
                    self.parts.disk.save(episode)
            self._saved = []
        recent = self.progress.recent or []
        for episode in episodes:
            self._take(episode)
            recent.append(episode.success)
            self.progress.episodes += 1
            self.progress.env_steps += len(episode)
        self.progress.recent = recent[-_RECENT:]
        self._show_episodes()
        self._say()

    def _take(self, episode: Episode) -> None:
        self._check_rewards(episode)
        self.parts.replay.add(episode)

    def _check_rewards(self, episode: Episode) -> None:
        if self.parts.paid is None:
            return
        self._seen |= rule_of_episode(episode.columns[REWARD], episode.success)
        if not self._seen.agrees(self.parts.paid):
            raise CommandError(
                f"the environment pays {self._seen}, the prior data {self.parts.paid}: one critic cannot "
                "learn both",
                "make the environment pay alike (koch: --env.reward=sparse, as `lerobot-ext demos` records), "
                "or train a policy with --policy.reward_source=sparse_success, which needs no rewards",
            )

    def _show_episodes(self) -> None:
        """Tell the policy about all episodes; what it logs of them would come after every episode."""
        log = logging.getLogger("lerobot_ext.offline_rl.batches")
        level = log.level
        log.setLevel(logging.WARNING)
        try:
            self._policy.set_episodes(self.parts.replay.episodes())
        finally:
            log.setLevel(level)

    # ---- learning ----------------------------------------------------------------------------------------

    def _update(self) -> None:
        """One update by `lerobot-train`'s own function."""
        from lerobot.scripts.lerobot_train import update_policy

        parts, settings, update = self.parts, self.settings, self.progress.updates
        began = time.perf_counter()
        set_seed(mixing.stream(settings.seed, _UPDATES, update))
        batch = self._batch(update)
        self._tracker.dataloading_s = time.perf_counter() - began
        self._tracker, _ = update_policy(
            self._tracker,
            parts.policy,
            batch,
            parts.optimizer,
            parts.cfg.optimizer.grad_clip_norm,
            accelerator=parts.accelerator,
        )
        self._tracker.step()
        self.progress.updates += 1
        self._say()

    def _batch(self, update: int) -> dict[str, Any]:
        """Prior data and collected ones, each through the policy's own preprocessor, then side by side.

        Each by itself, because the pictures of both may come in different sizes.
        """
        settings = self.settings
        share = settings.prior_share
        count = mixing.prior_count(update, settings.batch_size, share)
        halves = []
        if count:
            if self._prior is None:
                self._prior = prior_batches(
                    self.parts.dataset,
                    self.parts.cfg.policy,
                    update,
                    batch_size=settings.batch_size,
                    share=share,
                    seed=settings.seed,
                    num_workers=settings.num_workers,
                    pin_memory=self.parts.accelerator.device.type == "cuda",
                )
            halves.append(self.parts.pipelines.pre(next(self._prior)))
        rest = settings.batch_size - count
        if rest:
            places = mixing.draw(settings.seed, update, rest, len(self.parts.replay))
            halves.append(self.parts.pipelines.pre(self.parts.replay.batch(places)))
        return mixing.join(halves)

    def _new_tracker(self) -> MetricsTracker:
        meters = {
            "loss": AverageMeter("loss", ":.3f"),
            "grad_norm": AverageMeter("grdn", ":.3f"),
            "lr": AverageMeter("lr", ":0.1e"),
            "update_s": AverageMeter("updt_s", ":.3f"),
            "dataloading_s": AverageMeter("data_s", ":.3f"),
        }
        if self.parts.accelerator.device.type == "cuda":
            meters["gpu_mem_gb"] = AverageMeter("mem_gb", ":.2f")
        dataset = self.parts.dataset
        return MetricsTracker(
            self.settings.batch_size,
            dataset.num_frames,
            dataset.num_episodes,
            meters,
            initial_step=self.progress.updates,
        )

    # ---- telling and saving ------------------------------------------------------------------------------

    def _evaluate(self) -> None:
        settings, steps = self.settings, self.progress.env_steps
        found = evaluate(
            self.parts.eval_env,
            self._policy,
            self.parts.pipelines,
            settings.eval_episodes,
            settings.eval_seed,
            self.parts.accelerator.autocast(),
        )
        self._curve.add(
            steps, {**found, "updates": self.progress.updates, "episodes": self.progress.episodes}
        )
        self.progress.evaluated_at = steps
        self.report.evaluation = found
        logger.info(
            "after %d steps: success %.0f %% of %d (95 %%: %.0f to %.0f)",
            steps,
            found["env/pc_success"],
            settings.eval_episodes,
            found["env/success_low"],
            found["env/success_high"],
        )
        self._say()

    def _log(self) -> None:
        """A row of `metrics.csv`: what `lerobot-train` writes, by steps of the environment."""
        row = named(self._tracker.to_dict()) if self._tracker.metrics["loss"].count else {}
        row |= {"updates": self.progress.updates, "episodes_collected": self.progress.episodes}
        row |= {"success_recent": self._recent(), "replay_frames": len(self.parts.replay)}
        self._metrics.write(self.progress.env_steps, {"time": round(time.time(), 3), **row})
        self.progress.logged_at = self.progress.env_steps
        self._tracker.reset_averages()
        self.report.metrics = row
        self._say()

    def _save(self) -> None:
        parts = self.parts
        parts.disk.close()
        checkpoints.save(
            self.folder,
            self.progress,
            self.settings,
            parts.cfg,
            self._policy,
            parts.optimizer,
            parts.pipelines.pre,
            parts.pipelines.post,
        )

    def _recent(self) -> float:
        recent = self.progress.recent or []
        return sum(recent) / len(recent) if recent else 0.0

    def _say(self) -> None:
        self.report.success = self._recent()
        self._tell(self.report)
