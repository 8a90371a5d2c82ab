# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext label DATASET`: rewards, success and returns as columns of a dataset."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option

if TYPE_CHECKING:
    from lerobot_ext.labelling.episodes import Labelled
    from lerobot_ext.labelling.sources import Labels

REWARDS = ("sparse_success", "step_cost", "csv", "model", "keep")
SUCCESS = ("success", "done", "reward", "all", "csv")


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="folder of a LeRobotDataset v3, or a repo id")
    parser.add_argument(
        "--reward",
        nargs="+",
        metavar="SOURCE",
        required=True,
        help="sparse_success, step_cost, `csv FILE`, `model PATH` (a LeRobot reward model) or keep",
    )
    parser.add_argument(
        "--success-from",
        nargs="+",
        metavar="SOURCE",
        help="success, done or reward (columns next.…), all, or `csv FILE`; by default success, else done",
    )
    parser.add_argument("--discount", type=float, default=0.99, metavar="GAMMA", help="of returns; 0.99")
    parser.add_argument(
        "--return-name",
        default="mc_return",
        metavar="NAME",
        help="column of the returns; only one called observation.… reaches a policy; none leaves it out",
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, metavar="DIR", help="write a new dataset; videos are linked")
    place.add_argument("--in-place", action="store_true", help="change the dataset, at once or not at all")
    place.add_argument("--dry-run", action="store_true", help="say what would be written")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the returns")
    parser.add_argument("--device", default="cpu", help="where a reward model runs")
    add_json_option(parser)


def _run(args: Namespace) -> int:
    from lerobot_ext.repair.command import find_dataset

    _check(args)
    root = find_dataset(args.dataset)
    from lerobot_ext.labelling.episodes import read_episodes

    found = read_episodes(root)
    labels = _labels(found, args)
    if args.plot is not None:
        _plot(found, labels, args)
    target = None if args.dry_run else (root if args.in_place else args.out.resolve())
    if target is not None:
        _write(found, labels, args.return_name, target)
    return _say(found, labels, target, args)


def _check(args: Namespace) -> None:
    """Refuse what cannot be meant, all before anything is read."""
    if args.reward[0] not in REWARDS:
        raise CommandError(f"--reward {args.reward[0]} is not known", f"one of {', '.join(REWARDS)}")
    if args.success_from and args.success_from[0] not in SUCCESS:
        raise CommandError(
            f"--success-from {args.success_from[0]} is not known", f"one of {', '.join(SUCCESS)}"
        )
    if not 0.0 <= args.discount <= 1.0:
        raise CommandError(f"--discount is {args.discount}", "it lies between 0 and 1")
    if args.return_name in ("action", "index", "timestamp") or "/" in args.return_name:
        raise CommandError(f"--return-name {args.return_name} cannot be used", "mc_return, say")
    if args.plot is not None and args.plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise CommandError(f"--plot {args.plot} is of no known format", "end it in .png, .svg or .pdf")


def _labels(found: "Labelled", args: Namespace) -> "Labels":
    from lerobot_ext.labelling import sources

    default = next(
        (name.removeprefix("next.") for name in ("next.success", "next.done") if name in found.columns), None
    )
    asked = args.success_from or ([default] if default else None)
    if asked is None:
        raise CommandError(
            "the dataset does not say which episodes succeeded: it has no next.success and no next.done",
            "`--success-from all` if every one did, `--success-from csv FILE`, or `--success-from reward`",
        )
    success = sources.successes(found, asked)

    def model(path: Path | str) -> Any:
        from lerobot_ext.cli.look import progress
        from lerobot_ext.labelling.model import model_rewards

        with progress() as bar:
            task = bar.add_task("judging", total=None)
            return model_rewards(
                found.root,
                args.dataset if "/" in args.dataset else found.root.name,
                str(path),
                args.device,
                lambda done, total: bar.update(task, completed=done, total=total),
            )

    reward = sources.rewards(found, args.reward, success, model)
    return sources.labels(found, success, reward, args.discount)


def _plot(found: "Labelled", labels: "Labels", args: Namespace) -> None:
    from lerobot_ext.missing import require

    require("matplotlib", "plot")
    from lerobot_ext.labelling.report import draw

    try:
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        draw(found, labels, args.discount).savefig(args.plot, dpi=120)
    except OSError as error:
        raise CommandError(f"{args.plot} cannot be written: {error}", "name another file") from error


def _write(found: "Labelled", labels: "Labels", return_name: str, target: Path) -> None:
    import numpy as np
    from lerobot.utils.constants import REWARD, SUCCESS

    from lerobot_ext.cli.look import progress
    from lerobot_ext.labelling.rewards import success_flags
    from lerobot_ext.labelling.rewrite import write_labelled

    flags = [
        success_flags(length, success=won)
        for length, won in zip(found.lengths, labels.success.tolist(), strict=True)
    ]
    columns: dict[str, Any] = {REWARD: labels.reward, SUCCESS: np.concatenate(flags)}
    if return_name != "none":
        columns[return_name] = labels.returns
    features = {
        name: {"dtype": "bool" if name == SUCCESS else "float32", "shape": [1], "names": None}
        for name in columns
    }
    with progress() as bar:
        task = bar.add_task("writing", total=None)
        write_labelled(found, columns, features, target, lambda path: bar.advance(task))


def _say(found: "Labelled", labels: "Labels", target: Path | None, args: Namespace) -> int:
    from dataclasses import asdict

    from lerobot_ext.cli.look import console, write_json
    from lerobot_ext.labelling.report import summary

    said = summary(found, labels)
    if args.json:
        write_json({**asdict(said), "written": target, "plot": args.plot})
        return 0
    out = console()
    out.print(f"{said.successes} of {said.episodes} episodes succeeded", markup=False)
    out.print(f"reward of a step {said.reward_min:g} to {said.reward_max:g}", markup=False)
    out.print(
        f"return of an episode {said.return_min:.4g} to {said.return_max:.4g}, mean {said.return_mean:.4g}; "
        f"of any step {said.value_min:.4g} to {said.value_max:.4g} (discount {args.discount:g})",
        markup=False,
    )
    if args.plot is not None:
        out.print(f"wrote {args.plot}", markup=False)
    out.print(f"wrote {target}" if target else "nothing was written (--dry-run)", markup=False)
    return 0


LABEL = Command(
    name="label",
    summary="write rewards, success and returns into a dataset, for offline reinforcement learning",
    example="lerobot-ext label me/log --reward step_cost --success-from done --in-place --plot returns.png",
    configure=_configure,
    run=_run,
)
