# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext convert hdf5 SRC… --repo_id … --fps …`: HDF5 recordings as a LeRobotDataset."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option
from lerobot_ext.missing import require

if TYPE_CHECKING:
    from lerobot_ext.importing.survey import Survey

EXIT_PROBLEMS = 1
LAYOUTS = ("auto", "lapo", "robomimic", "aloha")
ALLOWED = ("terminals", "joint-width", "repeated", "blank")


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("format", choices=["hdf5"], help="what the sources are")
    parser.add_argument("sources", nargs="+", type=Path, metavar="SRC", help="files, or folders of them")
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument(
        "--validate",
        action="store_true",
        help="print the tree and every problem, write nothing; exit 1 if any",
    )
    doing.add_argument(
        "--sample", type=int, metavar="N", help="write SRC: a synthetic file of --layout with N frames"
    )
    parser.add_argument("--repo_id", "--repo-id", metavar="USER/NAME", help="name of the dataset")
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="its folder; below $HF_LEROBOT_HOME by default"
    )
    parser.add_argument("--fps", type=int, metavar="N", help="frames a second: HDF5 files do not say")
    parser.add_argument("--layout", choices=LAYOUTS, default="auto", help="what is where in a file")
    parser.add_argument("--mapping", type=Path, metavar="FILE", help="YAML that says what is where instead")
    parser.add_argument("--task", default="", metavar="TEXT", help="what is done, for files that do not say")
    parser.add_argument(
        "--vcodec",
        default="libsvtav1",
        metavar="NAME",
        help="LeRobot's video codec (libsvtav1, h264, …), or png: pictures as they are",
    )
    parser.add_argument("--robot_type", "--robot-type", metavar="NAME", help="for the dataset's info.json")
    parser.add_argument(
        "--allow",
        action="append",
        choices=ALLOWED,
        default=[],
        metavar="CODE",
        help=f"one of {', '.join(ALLOWED)}",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="cameras encoded at once; one a core by default"
    )
    parser.add_argument(
        "--restart", action="store_true", help="begin again instead of going on with a cut-off conversion"
    )
    add_json_option(parser)


def _run(args: Namespace) -> int:
    require("h5py", "hdf5")
    if args.sample is not None:
        return _sample(args)
    root = None if args.validate else _root(args)
    found = _survey(args)
    found.problems = [problem for problem in found.problems if problem.code not in args.allow]
    if root is None:
        return _show(found, args)
    if found.problems:
        _say_problems(found)
        return EXIT_PROBLEMS
    return _convert(found, root, args)


def _sample(args: Namespace) -> int:
    from lerobot_ext.cli.look import console, write_json
    from lerobot_ext.importing.sample import write_sample

    if len(args.sources) != 1 or args.sample < 2:
        raise CommandError(
            "--sample writes one file of at least 2 frames", "name one file: SRC --sample 5000"
        )
    layout = "lapo" if args.layout == "auto" else args.layout
    path = args.sources[0]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sample(path, layout, args.sample)
    except FileExistsError:
        raise CommandError(f"{path} is there already", "name another file") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error}", "name another file") from error
    if args.json:
        write_json({"file": path, "layout": layout, "frames": args.sample})
    else:
        console().print(f"wrote {path}: {args.sample} frames, layout {layout}", markup=False)
    return 0


def _root(args: Namespace) -> Path:
    """Where to convert to; bad settings are refused before a large file is looked through."""
    if not args.repo_id:
        raise CommandError("--repo_id is missing", "name the dataset: --repo_id me/my_robot")
    if args.fps is None or args.fps < 1:
        raise CommandError(
            f"--fps is {args.fps}, at least 1 is needed", "say how many frames a second were logged"
        )
    if args.workers is not None and args.workers < 1:
        raise CommandError(f"--workers is {args.workers}, at least 1 is needed", "leave it out")
    root: Path | None = args.root
    if root is None:
        from lerobot.utils.constants import HF_LEROBOT_HOME

        root = Path(HF_LEROBOT_HOME, args.repo_id)
    if root.exists():
        raise CommandError(f"{root} is there already", "name another --root, or delete it first")
    return root


def _survey(args: Namespace) -> "Survey":
    from lerobot_ext.cli.look import progress
    from lerobot_ext.importing.mapping import read_mapping
    from lerobot_ext.importing.survey import find_files, survey

    mapping = read_mapping(args.mapping) if args.mapping else None
    files = find_files(args.sources)
    with progress() as bar:
        looking = bar.add_task("looking", total=len(files))
        return survey(files, args.layout, mapping, lambda file: bar.advance(looking))


def _say_problems(found: "Survey") -> None:
    from lerobot_ext.cli.look import console

    said = console(stderr=True)
    for problem in found.problems:
        said.print(f"{problem.code}: {problem}", markup=False)
    said.print(f"{len(found.problems)} problems; nothing was written", markup=False)


def _show(found: "Survey", args: Namespace) -> int:
    from lerobot_ext.cli.look import console, write_json
    from lerobot_ext.importing import report

    if args.json:
        write_json(report.as_json(found))
    else:
        report.show(found, console())
    return EXIT_PROBLEMS if found.problems else 0


def _convert(found: "Survey", root: Path, args: Namespace) -> int:
    # SVT-AV1 prints its settings for every encoder; an encoder a segment and camera is many.
    os.environ.setdefault("SVT_LOG", "1")
    import av

    av.logging.set_libav_level(av.logging.ERROR)  # x264 reports on every encoder
    from lerobot_ext.cli.look import console, write_json
    from lerobot_ext.importing.convert import Options, convert

    options = Options(
        args.repo_id,
        root,
        args.fps,
        args.task,
        args.vcodec,
        args.robot_type,
        args.workers,
        args.restart,
    )
    with _bars() as progress:
        done = convert(found, options, progress)
    if args.json:
        write_json({**vars(done), "notes": found.notes})
        return 0
    out = console()
    for note in found.notes:
        out.print(f"note: {note}", markup=False)
    if done.n_kept:
        out.print(f"went on with {done.n_kept} segments of a conversion that was cut off", markup=False)
    out.print(
        f"verified {done.verified.frames} rows exactly and {done.verified.pictures} pictures "
        f"(mean error {done.verified.mean_error:.1f} of 255)",
        markup=False,
    )
    out.print(f"{done.root}: {done.n_episodes} episodes, {done.n_frames} frames", markup=False)
    return 0


@contextmanager
def _bars() -> Iterator[Any]:
    """Progress on the screen."""
    from lerobot_ext.cli.look import progress
    from lerobot_ext.importing.convert import Progress

    with progress() as bar:
        current: list[Any] = []

        def stage(name: str, total: int, done: int) -> None:
            current[:] = [bar.add_task(name, total=total, completed=done)]

        yield Progress(stage, lambda count: bar.advance(current[0], count))


CONVERT = Command(
    name="convert",
    summary="convert HDF5 recordings (LAPO, robomimic, ALOHA or your own layout) to a LeRobotDataset",
    example="lerobot-ext convert hdf5 log.hdf5 --repo_id me/log --fps 30 --task 'lift the cube'",
    configure=_configure,
    run=_run,
)
