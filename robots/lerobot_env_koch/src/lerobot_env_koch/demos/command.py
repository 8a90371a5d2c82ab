# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext demos`: the command line of the recorder. Cheap to import; the work is in `recorder`."""

import os
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from lerobot_ext.cli import Command, CommandError

# Named here once more, because importing the recorder for `--help` would load LeRobot's dataset code.
_TASKS = ("reach", "lift", "place", "tour", "choose", "either", "around")
_SKILLS = ("expert", "noisy", "random", "mixed")


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--repo_id", help="name of the dataset (default: local/koch_TASK)")
    parser.add_argument("--root", type=Path, required=True, help="folder to write, or to go on with")
    parser.add_argument("--task", default="lift", help=f"{', '.join(_TASKS)} (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=50, help="episodes to record (default: %(default)s)")
    parser.add_argument("--skill", default="expert", help=f"{', '.join(_SKILLS)} (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="base of all randomness (default: %(default)s)")
    parser.add_argument(
        "--noise", type=float, default=1.0, help="clumsiness of skill noisy (default: %(default)s)"
    )
    parser.add_argument(
        "--action-noise",
        type=float,
        default=1.0,
        help="disturb the expert's arm while recording what it wanted; 0 is off (default: %(default)s)",
    )
    parser.add_argument(
        "--keep-failures", action="store_true", help="keep unsuccessful episodes of expert and noisy"
    )
    parser.add_argument("--with-images", action="store_true", help="record the cameras top and wrist")
    parser.add_argument(
        "--with-depth", action="store_true", help="record their depth maps too, in millimetres, lossless"
    )
    parser.add_argument("--image-size", type=int, default=96, help="rows and columns (default: %(default)s)")
    parser.add_argument(
        "--image-format",
        default="video",
        help="video, or image: lossless in the parquet files (default: %(default)s)",
    )
    parser.add_argument(
        "--no-environment-state",
        action="store_true",
        help="leave out the pose of cube and goal: only what a real arm with cameras sees",
    )
    parser.add_argument(
        "--belt-m-s",
        type=float,
        default=0.0,
        help="speed of the table's top, a conveyor belt, to the arm's right (default: %(default)s, at rest)",
    )
    parser.add_argument("--renderer", default="auto", help="auto, mujoco or painter (default: %(default)s)")


def _run(args: Namespace) -> int:
    import av
    from datasets import disable_progress_bars
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lerobot_env_koch.demos.recorder import DemoOptions, DemoReport, record_demos

    try:
        options = DemoOptions(
            repo_id=args.repo_id or f"local/koch_{args.task}",
            root=args.root,
            task=args.task,
            episodes=args.episodes,
            skill=args.skill,
            seed=args.seed,
            noise=args.noise,
            action_noise=args.action_noise,
            keep_failures=args.keep_failures,
            images=args.image_format if args.with_images else "none",
            environment_state=not args.no_environment_state,
            image_size=args.image_size,
            renderer=args.renderer,
            belt_m_s=args.belt_m_s,
            depth=args.with_depth,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error

    # LeRobot's writer would show one bar for each episode, and the video libraries twenty lines.
    disable_progress_bars()
    av.logging.set_libav_level(av.logging.ERROR)
    os.environ.setdefault("SVT_LOG", "1")
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[successes]} succeeded"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(f"{args.skill} {args.task}", total=args.episodes, successes=0)

        def show(report: DemoReport) -> None:
            progress.update(bar, completed=len(report.episodes), successes=report.successes)

        try:
            report = record_demos(options, show)
        except FileExistsError as error:
            raise CommandError(str(error)) from error
        except RuntimeError as error:
            raise CommandError(str(error)) from error
        show(report)
    console.print(
        f"{len(report.episodes)} episodes ({report.successes} successful), {report.frames} frames, "
        f"{report.attempts} attempts, {time.monotonic() - started:.1f} s -> {args.root}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


DEMOS = Command(
    name="demos",
    summary="Record scripted demonstrations of the simulated Koch as a LeRobotDataset.",
    example="lerobot-ext demos --repo_id local/koch_lift --root data/koch_lift --task lift --episodes 50",
    configure=_configure,
    run=_run,
)
