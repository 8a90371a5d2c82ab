# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext quickstart`: one command from nothing to a trained policy."""

import importlib.util
import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path

from lerobot_ext.cli import Command, CommandError
from lerobot_ext.installing import install_command

_NEEDED = {
    "lerobot_env_koch": "lerobot_env_koch",
    "lerobot_robot_koch": "lerobot_robot_koch",
    "lerobot_policy_hierarchical_diffusion": "lerobot_policy_hierarchical_diffusion",
    "matplotlib": "matplotlib",
    "pexpect": "pexpect",
    "accelerate": "lerobot[training]",
}
_MARKER = ".lerobot_ext_quickstart"


def configure(parser: ArgumentParser) -> None:
    """Add the quickstart's arguments."""
    parser.add_argument(
        "--workdir", type=Path, default=Path("quickstart_run"), help="where everything is written"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seeds bench, demonstrations, training and evaluation"
    )
    parser.add_argument(
        "--fast", action="store_true", help="smoke run: every step, tiny sizes, no useful policy"
    )
    parser.add_argument(
        "--with-images",
        action="store_true",
        help="train from two cameras instead of the tracked cube (slower)",
    )
    parser.add_argument("--device", default="cpu", help="torch device for training and inference")
    parser.add_argument(
        "--overwrite", action="store_true", help="delete the work directory of an earlier run first"
    )


def run(args: Namespace) -> int:
    """Run the quickstart and return its exit code."""
    _check_installed()  # before what follows imports some of it
    from rich.console import Console

    from lerobot_ext.quickstart.run import run_quickstart
    from lerobot_ext.quickstart.settings import FAST, FULL_IMAGES, FULL_STATE, Settings

    if args.seed < 0:
        raise CommandError(f"--seed must not be negative, got {args.seed}.", "Give 0 or more.")
    workdir = args.workdir.expanduser().resolve()
    _prepare(workdir, args.overwrite)
    sizes = FAST if args.fast else FULL_IMAGES if args.with_images else FULL_STATE
    settings = Settings(workdir, args.seed, args.with_images, sizes, args.device)
    return run_quickstart(settings, Console())


def _check_installed() -> None:
    missing = [dist for module, dist in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise CommandError(
            f"the quickstart drives packages that are not installed: {', '.join(missing)}.",
            f"{install_command(*missing)}   (or: {install_command('lerobot_ext[quickstart]')})",
        )


def _prepare(workdir: Path, overwrite: bool) -> None:
    """Make the work directory; never touch a folder that is not an earlier run's."""
    if workdir.exists() and any(workdir.iterdir()):
        if not (workdir / _MARKER).exists():
            raise CommandError(
                f"--workdir {workdir} exists and is not a quickstart's.", "Give a new folder with --workdir."
            )
        if not overwrite:
            raise CommandError(
                f"--workdir {workdir} holds an earlier run.", "Add --overwrite, or give another --workdir."
            )
        shutil.rmtree(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / _MARKER).touch()


QUICKSTART = Command(
    name="quickstart",
    summary="From nothing to a trained policy on a virtual Koch arm, by the stock CLIs.",
    example="lerobot-ext quickstart --seed 0 --workdir quickstart_run",
    configure=configure,
    run=run,
)
