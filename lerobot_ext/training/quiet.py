# SPDX-License-Identifier: Apache-2.0
"""Runs the stock trainer in this process for what its hooks see, and leaves nothing on the disk."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_QUIET = (
    "--save_checkpoint=false",
    "--env_eval_freq=0",
    "--eval_steps=0",
    "--log_freq=0",
    "--wandb.enable=false",
    "--policy.push_to_hub=false",
)
_OFF = ("LEROBOT_EXT_METRICS", "LEROBOT_EXT_TENSORBOARD", "LEROBOT_EXT_HUB")


def quiet_training(words: list[str]) -> None:
    """Run `lerobot-train WORDS` without logs of its own, checkpoints and uploads; stdout is left free.

    Args:
        words (`list[str]`): Options of `lerobot-train`, `--output_dir` excepted.

    Raises:
        SystemExit: LeRobot's parser refused the options, and has said why.
        Exception: Whatever LeRobot raises.
    """
    from lerobot.scripts import lerobot_train

    with tempfile.TemporaryDirectory() as folder, _switched_off():
        command = ["lerobot-train", *words, *_QUIET, f"--output_dir={Path(folder) / 'run'}"]
        with _command_line(command), contextlib.redirect_stdout(sys.stderr):
            lerobot_train.main()


@contextlib.contextmanager
def _command_line(words: list[str]) -> Iterator[None]:
    """LeRobot reads the options from the process's own."""
    before = sys.argv
    sys.argv = words
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def _switched_off() -> Iterator[None]:
    """Switch off what writes beside checkpoints."""
    before = {name: os.environ.get(name) for name in _OFF}
    os.environ.update(dict.fromkeys(_OFF, "off"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
