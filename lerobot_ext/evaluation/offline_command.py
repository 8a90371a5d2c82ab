# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext offline-eval`: how far a policy's actions are from recorded ones, for any policy."""

from __future__ import annotations

import contextlib
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError, count
from lerobot_ext.cli.look import add_json_option
from lerobot_ext.installing import install_command

if TYPE_CHECKING:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from lerobot_ext.evaluation.episodes import Recordings
    from lerobot_ext.evaluation.offline import Evaluation, PolicyResult
    from lerobot_ext.evaluation.replay import Plan

PASSED_ON = ("--policy.", "--dataset.")
_PATH = "--policy.path="


def _workers(text: str) -> int:
    if not text.isdigit():
        raise ArgumentTypeError(f"{text!r} is no number: 0 or more")
    return int(text)


def _configure(parser: ArgumentParser) -> None:
    parser.usage = (
        "lerobot-ext offline-eval --policy.path=DIR… --dataset.repo_id=USER/DATA [--dataset.root=DIR] "
        "[--episodes 0:10] [--mode both|select|chunk] [--out DIR] [--json]"
    )
    parser.add_argument(
        "checkpoints",
        nargs="*",
        metavar="CHECKPOINT",
        help="more checkpoints to compare; --policy.path may be repeated as well. Other --policy.… options "
        "(--policy.n_action_steps=8) change the configuration of all of them",
    )
    parser.add_argument(
        "--episodes",
        metavar="WHICH",
        help="3, 0:10, -5:, or several with commas (default: all). --dataset.eval_split=0.1 takes those that "
        "the stock trainer holds out with it",
    )
    parser.add_argument(
        "--mode",
        choices=("both", "select", "chunk"),
        default="both",
        help="select: select_action at every frame, as on the robot; chunk: predict_action_chunk at each "
        "K-th (default: both)",
    )
    parser.add_argument("--every", type=count, default=10, metavar="K", help="frames between chunks (10)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, mps (default: the checkpoint's)")
    parser.add_argument(
        "--batch_size", type=count, default=1, metavar="N", help="episodes side by side (1; more for a GPU)"
    )
    parser.add_argument(
        "--num_workers", type=_workers, default=0, metavar="N", help="processes that decode frames (0)"
    )
    parser.add_argument("--seed", type=int, default=1000, help="of the policy's random draws (1000)")
    parser.add_argument("--rename_map", metavar="JSON", help="the dataset's names to the policy's")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: outputs/offline_eval/DATE_TIME")
    parser.add_argument("--no-pictures", action="store_true", help="write JSON and CSV only")
    add_json_option(parser)


def _run(args: Namespace) -> int:
    from importlib.util import find_spec

    paths, overrides, dataset_words = _sort(args)
    if not args.no_pictures and find_spec("matplotlib") is None:
        plots = install_command("lerobot_ext[plot]")
        raise CommandError("matplotlib is missing", f"`{plots}`, or say --no-pictures")
    from lerobot_ext.cli.look import write_json
    from lerobot_ext.doctor.checkpoint_child import load_plugins
    from lerobot_ext.evaluation import offline, offline_report
    from lerobot_ext.evaluation.loading import open_dataset, read_dataset_options, read_metadata

    # LeRobot prints now and then; stdout is for results.
    with contextlib.redirect_stdout(sys.stderr):
        load_plugins()
        options = read_dataset_options(dataset_words)
        meta = read_metadata(options)
        out = _folder(args.out, Path(meta.root))
        episodes = _episodes(args.episodes, options, meta)
        dataset = open_dataset(options, episodes)
        found = run(args, paths, overrides, dataset)
    facts = {"dataset": options.repo_id, "root": str(dataset.root), **offline.as_json(found)}
    written = offline_report.write(found, facts, out, pictures=not args.no_pictures)
    if args.json:
        write_json({**facts, "files": written})
    else:
        _show(found, facts, written)
    return 0


def _sort(args: Namespace) -> tuple[list[str], list[str], list[str]]:
    """Checkpoints, overrides of their configuration, and options of the dataset.

    Raises:
        CommandError: There is no checkpoint, or what it is said to be is none.
    """
    words = args.passed_on
    paths = [word.removeprefix(_PATH) for word in words if word.startswith(_PATH)] + args.checkpoints
    if not paths:
        raise CommandError(
            "there is no policy", "say --policy.path=outputs/train/…/checkpoints/last/pretrained_model"
        )
    if len(set(paths)) < len(paths):
        raise CommandError("one checkpoint is named twice", "name each once")
    if any(word.startswith("--policy.type=") for word in words):
        raise CommandError(
            "--policy.type would make a policy that has learned nothing", "say --policy.path of a checkpoint"
        )
    rest = [word for word in words if word.startswith("--policy.") and not word.startswith(_PATH)]
    overrides = [f"--{word.removeprefix('--policy.')}" for word in rest]
    if args.device:
        overrides.append(f"--device={args.device}")
    return paths, overrides, [word for word in words if word.startswith("--dataset.")]


def _folder(asked: Path | None, root: Path) -> Path:
    """Where files go, which is not into the dataset.

    Raises:
        CommandError: It would be.
    """
    from datetime import datetime

    out = asked or Path("outputs/offline_eval") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    if out.resolve().is_relative_to(root.resolve()):
        raise CommandError(f"--out {out} lies in the dataset, which is only read", "name another folder")
    return out


def _episodes(asked: str | None, options: Any, meta: Any) -> list[int]:
    """The episodes to look at.

    Raises:
        CommandError: There are two answers, or a wrong one.
    """
    from lerobot_ext.evaluation.episodes import held_out, parse_episodes

    if asked and options.episodes is not None:
        raise CommandError("--episodes and --dataset.episodes are both given", "say one of them")
    chosen = parse_episodes(asked, meta.total_episodes) if asked else options.episodes
    chosen = list(range(meta.total_episodes)) if chosen is None else chosen
    beyond = [index for index in chosen if index >= meta.total_episodes]
    if beyond:
        raise CommandError(
            f"--dataset.episodes: there is no episode {beyond[0]}",
            f"the dataset has {meta.total_episodes}: 0 to {meta.total_episodes - 1}",
        )
    if options.eval_split:
        chosen = held_out(chosen, meta.episodes["tasks"], options.eval_split)
    return sorted(chosen)


def run(args: Namespace, paths: list[str], overrides: list[str], dataset: LeRobotDataset) -> Evaluation:
    """Load one checkpoint after another, replay the episodes, sum up.

    Args:
        args (`Namespace`): Of the command line.
        paths (`list[str]`): Checkpoints.
        overrides (`list[str]`): Of their configuration.
        dataset (`LeRobotDataset`): With the episodes to look at.
    """
    from lerobot_ext.cli.look import progress
    from lerobot_ext.evaluation.episodes import read_recordings
    from lerobot_ext.evaluation.loading import read_rename_map
    from lerobot_ext.evaluation.offline import evaluate, short_names
    from lerobot_ext.evaluation.replay import Plan

    recordings = read_recordings(dataset)
    rename_map = read_rename_map(args.rename_map) if args.rename_map else {}
    plan = Plan(
        select=args.mode != "chunk",
        chunk=args.mode != "select",
        every=args.every,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        seed=args.seed,
    )
    policies = []
    with progress() as bar:
        for name, path in zip(short_names(paths), paths, strict=True):
            task = bar.add_task(name, total=recordings.n_frames)
            policies.append(
                _one(
                    path,
                    name,
                    overrides,
                    rename_map,
                    dataset,
                    recordings,
                    plan,
                    lambda frames, task=task: bar.advance(task, frames),
                )
            )
    return evaluate(recordings, plan, policies)


def _one(
    path: str,
    name: str,
    overrides: list[str],
    rename_map: dict[str, str],
    dataset: LeRobotDataset,
    recordings: Recordings,
    plan: Plan,
    step: Any,
) -> PolicyResult:
    """One checkpoint; its policy is let go before the next one is loaded."""
    from dataclasses import replace

    from lerobot_ext.evaluation.loading import load_policy
    from lerobot_ext.evaluation.offline import PolicyResult
    from lerobot_ext.evaluation.replay import NoChunks, replay
    from lerobot_ext.evaluation.trained_on import training_note

    loaded = load_policy(path, dataset.meta.features, overrides, rename_map)
    notes = [f"{note.subject}: {note.message}; {note.remedy}" for note in loaded.notes]
    indices = [episode.index for episode in recordings.episodes]
    note = training_note(loaded.folder, dataset.repo_id, indices, dataset.meta.episodes["tasks"])
    try:
        said = replay(loaded, dataset, recordings.episodes, plan, step)
    except NoChunks:
        if not plan.select:
            raise CommandError(
                f"{path} ({loaded.config.type}) predicts no chunks", "use --mode select"
            ) from None
        notes.append(f"{loaded.config.type} predicts no chunks: select_action only")
        said = replay(loaded, dataset, recordings.episodes, replace(plan, chunk=False), step)
    return PolicyResult(
        name=name,
        path=loaded.folder,
        type=loaded.config.type,
        device=str(loaded.config.device),
        replay=said,
        notes=[*notes, *([note] if note else [])],
    )


def _show(found: Evaluation, facts: dict[str, Any], written: list[Path]) -> None:
    from lerobot_ext.cli.look import console, table
    from lerobot_ext.evaluation.offline_report import headline, tables

    out = console()
    out.print(headline(found, facts), markup=False)
    for shown in tables(found):
        out.print(table(shown.title, shown.columns, shown.rows))
    for policy in found.policies:
        for note in policy.notes:
            out.print(f"{policy.name}: {note}", markup=False)
    out.print(f"wrote {', '.join(path.name for path in written)} in {written[0].parent}", markup=False)


OFFLINE_EVAL = Command(
    name="offline-eval",
    summary="Compare a policy's actions with recorded ones: errors by joint, step and task, for any policy.",
    example="lerobot-ext offline-eval --policy.path=outputs/train/lift/checkpoints/last/pretrained_model "
    "--dataset.repo_id=user/data --dataset.eval_split=0.1",
    configure=_configure,
    run=_run,
    pass_on=PASSED_ON,
)
