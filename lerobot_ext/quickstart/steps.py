# SPDX-License-Identifier: Apache-2.0
"""The steps of the quickstart, in order. Each runs stock commands and reads back what they left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console

from lerobot_ext.quickstart import commands
from lerobot_ext.quickstart.calibrate import run_calibration
from lerobot_ext.quickstart.report import (
    Results,
    folder_bytes,
    read_dataset_size,
    read_losses,
    read_successes,
)
from lerobot_ext.quickstart.runner import Runner, StepError
from lerobot_ext.quickstart.services import BenchControl, BenchInfo
from lerobot_ext.quickstart.settings import Settings

_START_S = 12.0  # what a stock CLI needs to start, on an idle two-core machine


@dataclass
class Quickstart:
    """One run: its settings, the services it uses, and the figures it collects."""

    settings: Settings
    runner: Runner
    console: Console
    bench: BenchInfo
    control: BenchControl
    results: Results = field(default_factory=Results)
    _number: int = 0

    def run(self) -> Results:
        """Run every step.

        Raises:
            StepError: At the first step that fails.
        """
        steps: list[tuple[str, str, Callable[[], None]]] = [
            ("calibrate", "Calibrate both arms", self.calibrate),
            ("teleoperate", "Teleoperate: the leader's hand moves the follower", self.teleoperate),
            ("record", "Record episodes through the simulated bus", self.record),
            ("demos", "Demonstrations by the scripted expert", self.demonstrate),
            ("train", "Train hierarchical_diffusion and push it to the loopback Hub", self.train),
            ("eval", "Evaluate in the gym environment", self.evaluate),
            ("pull", "Pull policy and processors back in a fresh process", self.pull),
            ("rollout", "Run the pulled policy on the virtual arm", self.rollout),
        ]
        for name, title, step in steps:
            with self._timed(name, title, len(steps)):
                step()
        return self.results

    @contextmanager
    def _timed(self, name: str, title: str, total: int) -> Iterator[None]:
        self._number += 1
        self.console.print(f"[bold]{self._number}/{total}[/bold]  {title}")
        started = time.monotonic()
        yield
        self.results.seconds[name] = round(time.monotonic() - started, 1)
        self.console.print(f"     [green]done[/green] in {self.results.seconds[name]:.0f} s")

    def _calibrate_arm(self, arm: str, argv: list[str]) -> None:
        run_calibration(
            self.runner,
            f"calibrate_{arm}",
            argv,
            phase=lambda: str(self.control.ask("status")["calibration"][arm]),
            prompt_timeout_s=180,
            hand_timeout_s=30,
            remedy="Is another program using the port? Run the quickstart again with --overwrite.",
        )

    def calibrate(self) -> None:
        """Calibrate both arms; the bench's hand does the moving, we press ENTER."""
        self._calibrate_arm("follower", commands.calibrate_follower(self.bench))
        self._calibrate_arm("leader", commands.calibrate_leader(self.bench))

    def teleoperate(self) -> None:
        """Teleoperate for a few seconds."""
        self.runner.run(
            "teleoperate",
            commands.teleoperate(self.settings, self.bench),
            remedy="Look for a slow bus in the log; `lerobot-ext sim` must still be running.",
            expected_s=_START_S + self.settings.sizes.teleop_s,
            timeout_s=120 + self.settings.sizes.teleop_s,
        )

    def record(self) -> None:
        """Record through the simulated bus."""
        sizes = self.settings.sizes
        recording_s = sizes.record_episodes * (sizes.record_episode_s + 2)
        log = self.runner.run(
            "record",
            commands.record(self.settings, self.bench),
            remedy="Free some CPU (bench, cameras and recorder share it) and run the quickstart again.",
            expected_s=_START_S + recording_s,
            timeout_s=180 + 4 * recording_s,
        )
        episodes, frames = read_dataset_size(self.settings.recorded)
        self.results.recorded_episodes, self.results.recorded_frames = episodes, frames
        if episodes != sizes.record_episodes:
            raise StepError(
                "lerobot-record",
                f"{episodes} of {sizes.record_episodes} episodes were saved",
                log,
                "Read the log.",
            )

    def demonstrate(self) -> None:
        """Write the expert's demonstrations."""
        self.runner.run(
            "demos",
            commands.demos(self.settings),
            remedy="See `lerobot-ext demos --help`; an existing folder is never overwritten.",
            expected_s=_START_S
            + self.settings.sizes.demo_episodes * (1.0 if self.settings.with_images else 0.5),
            timeout_s=900,
        )
        self.results.demo_episodes, self.results.demo_frames = read_dataset_size(self.settings.demos)

    def train(self) -> None:
        """Train, and let the trainer push policy and processors."""
        log = self.runner.run(
            "train",
            commands.train(self.settings),
            remedy="Out of memory: lower the batch size. `invalid choice`: run `lerobot-ext doctor`.",
            expected_s=_START_S + 0.1 * self.settings.sizes.train_steps,
            timeout_s=4 * 3600,
        )
        self.results.losses = read_losses(log)
        if not self.results.losses:
            raise StepError("lerobot-train", "no training loss in the log", log, "Read the log.")
        self.results.pushed_bytes = folder_bytes(self.settings.checkpoint)

    def evaluate(self) -> None:
        """Evaluate on seeds that no demonstration used."""
        self.runner.run(
            "eval",
            commands.evaluate(self.settings),
            remedy="Run `lerobot-ext doctor`; the checkpoint is in train/checkpoints.",
            expected_s=_START_S + self.settings.sizes.eval_episodes,
            timeout_s=1800,
        )
        self.results.successes, self.results.episodes = read_successes(self.settings.eval)

    def pull(self) -> None:
        """Pull the policy back from the Hub."""
        log = self.runner.run(
            "pull",
            commands.pull(self.settings),
            remedy="Was the push at the end of the training log refused?",
            expected_s=5,
            timeout_s=600,
        )
        needed = ("config.json", "model.safetensors", "policy_preprocessor.json", "policy_postprocessor.json")
        missing = [name for name in needed if not (self.settings.pulled / name).exists()]
        if missing:
            raise StepError(
                "hf download", f"the pulled policy lacks {', '.join(missing)}", log, "Read the log."
            )
        self.results.pulled_bytes = folder_bytes(self.settings.pulled)

    def rollout(self) -> None:
        """Run the pulled policy on the virtual arm; each lifted cube is put down somewhere else."""
        self.control.ask("reset", seed=self.settings.seed)
        start = lifts = int(self.control.ask("status")["lifts"])

        def respawn_after_a_lift() -> None:
            nonlocal lifts
            now = int(self.control.ask("status")["lifts"])
            if now > lifts:
                lifts = now
                self.control.ask("reset", seed=self.settings.seed + now - start)

        self.runner.run(
            "rollout",
            commands.rollout(self.settings, self.bench),
            remedy="Look for a slow control loop in the log; `lerobot-ext sim` must still be running.",
            expected_s=_START_S + self.settings.sizes.rollout_s,
            timeout_s=600 + self.settings.sizes.rollout_s,
            meanwhile=respawn_after_a_lift,
        )
        self.results.rollout_s = self.settings.sizes.rollout_s
        self.results.rollout_lifts = int(self.control.ask("status")["lifts"]) - start
