# SPDX-License-Identifier: Apache-2.0
"""What one quickstart run is made of: sizes, seeds and where everything lies."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from lerobot_ext.cli import CommandError
from lerobot_ext.installing import install_command

CAMERAS = ("top", "wrist")
CAMERA_SIZE = 96
FPS = 30
TASK_TEXT = "Lift the red cube."


@dataclass(frozen=True)
class Sizes:
    """How much of everything a run does.

    Args:
        teleop_s (`float`): Seconds of teleoperation.
        record_episodes (`int`): Episodes recorded through the simulated bus.
        record_episode_s (`float`): Seconds an episode.
        demo_episodes (`int`): Demonstrations by the scripted expert.
        batch_size (`int`): Training batch size.
        train_steps (`int`): Optimizer steps.
        eval_episodes (`int`): Evaluation episodes.
        rollout_s (`float`): Seconds the pulled policy drives the virtual arm.
    """

    teleop_s: float
    record_episodes: int
    record_episode_s: float
    demo_episodes: int
    batch_size: int
    train_steps: int
    eval_episodes: int
    rollout_s: float


FULL_STATE = Sizes(5, 3, 6, 50, 64, 1500, 50, 20)
FULL_IMAGES = Sizes(5, 3, 6, 50, 32, 800, 50, 20)
FAST = Sizes(2, 1, 3, 6, 16, 40, 4, 5)


@dataclass(frozen=True)
class Settings:
    """One run's settings.

    Args:
        workdir (`Path`): Everything the run writes lies here.
        seed (`int`): Seeds the bench, the demonstrations, the training and the evaluation.
        with_images (`bool`): Train from two cameras instead of from the cube's tracked pose.
        sizes (`Sizes`): How much of everything.
        device (`str`): Torch device for training and inference.
    """

    workdir: Path
    seed: int
    with_images: bool
    sizes: Sizes
    device: str = "cpu"

    @property
    def logs(self) -> Path:
        """One log file a step."""
        return self.workdir / "logs"

    @property
    def bench_dir(self) -> Path:
        """Where the virtual bench puts its two ports and its control socket."""
        return self.workdir / "bench"

    @property
    def recorded(self) -> Path:
        """The dataset recorded through the simulated bus."""
        return self.workdir / "recorded"

    @property
    def demos(self) -> Path:
        """The dataset of the scripted expert."""
        return self.workdir / "demos"

    @property
    def train(self) -> Path:
        """Output folder of `lerobot-train`."""
        return self.workdir / "train"

    @property
    def checkpoint(self) -> Path:
        """The trained policy with both its processors."""
        return self.train / "checkpoints" / "last" / "pretrained_model"

    @property
    def eval(self) -> Path:
        """Output folder of `lerobot-eval`."""
        return self.workdir / "eval"

    @property
    def pulled(self) -> Path:
        """Where the policy is pulled to from the loopback Hub."""
        return self.workdir / "pulled"

    @property
    def repo_id(self) -> str:
        """The policy's name on the loopback Hub."""
        return "quickstart/koch_lift"

    @property
    def log_freq(self) -> int:
        """Training steps between two log lines: forty points make a curve."""
        return max(1, self.sizes.train_steps // 40)

    def environment(self) -> dict[str, str]:
        """What each command needs beyond the caller's environment: data and calibration kept in `workdir`.

        One thread for torch: the policies are small, and on two cores a second thread only spins.
        """
        return {
            "HF_LEROBOT_HOME": str(self.workdir / "lerobot_home"),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "TOKENIZERS_PARALLELISM": "false",
        }


def executable(name: str) -> str:
    """Path of a console script: beside this Python first, then on PATH.

    Raises:
        CommandError: If the script is not installed.
    """
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    found = shutil.which(name)
    if found is None:
        raise CommandError(
            f"the command `{name}` is not installed beside {sys.executable}.",
            f"Install what the quickstart drives: {install_command('lerobot_ext[quickstart]')}.",
        )
    return found
