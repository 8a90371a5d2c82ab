# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext pipeline show|check|bench|add`: files of processor steps, before a motor moves."""

from argparse import SUPPRESS, ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option

if TYPE_CHECKING:
    from lerobot_ext.pipelines.survey import StepReport, Subject, Survey

EXIT_PROBLEM = 1


def _configure(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="show|check|bench|add")
    for name, text in (
        ("show", "the steps, and the features before and behind each"),
        ("check", "refuse what cannot work, with exit code 1: names, fields, features, the way back"),
        ("bench", "microseconds a frame for each step"),
    ):
        one = actions.add_parser(name, help=text, description=text)
        one.add_argument("file", type=Path, metavar="FILE", help="a file of steps, or a checkpoint's folder")
        _add_subject(one)
        if name == "bench":
            one.add_argument("--frames", type=_count, default=500, metavar="N", help="default: 500")
        add_json_option(one)
    _configure_add(actions.add_parser("add", help="put steps into a saved checkpoint"))


def _add_subject(parser: ArgumentParser) -> None:
    parser.epilog = "--robot.type=… and its further options name a robot; it is not connected"
    parser.add_argument("--policy.path", dest="policy", metavar="DIR", help="the checkpoint it is for")
    parser.add_argument("--policy.type", dest="policy_type", help=SUPPRESS)
    parser.add_argument("--dataset.repo_id", dest="repo_id", metavar="REPO", help="the dataset it is for")
    parser.add_argument("--dataset.root", dest="root", metavar="DIR", help="its folder")


def _configure_add(parser: ArgumentParser) -> None:
    parser.add_argument("--policy.path", dest="policy", required=True, metavar="DIR", help="the checkpoint")
    parser.add_argument("--steps", type=Path, metavar="FILE", help="steps before the policy, or both kinds")
    parser.add_argument("--post", type=Path, metavar="FILE", help="steps behind the policy")
    places = "start, before_normalizer, after_normalizer, end, or an index"
    parser.add_argument("--where", metavar="PLACE", help=f"of --steps: {places}")
    parser.add_argument("--post-where", metavar="PLACE", help="of --post: the same")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="a new folder; else the checkpoint is replaced"
    )
    parser.add_argument("--dry-run", action="store_true", help="try it, and change nothing")
    add_json_option(parser)


def _count(text: str) -> int:
    from argparse import ArgumentTypeError

    if not text.isdigit() or int(text) < 10:
        raise ArgumentTypeError(f"{text!r} is no number of frames of 10 or more")
    return int(text)


def _run(args: Namespace) -> int:
    from lerobot_ext.pipelines.file import PipelineError

    try:
        return _add(args) if args.action == "add" else _look(args)
    except PipelineError as error:
        raise CommandError(error.message, error.remedy) from error


def _aside() -> Any:
    """What LeRobot and plugins print goes to stderr: stdout is for the result."""
    import sys
    from contextlib import redirect_stdout

    return redirect_stdout(sys.stderr)


# --- show, check, bench


def _look(args: Namespace) -> int:
    from lerobot_ext.cli.look import console, write_json
    from lerobot_ext.pipelines.survey import survey

    with _aside():
        found = survey(args.file.expanduser(), _subject(args))
    totals: dict[str, StepReport] = {}
    if args.action == "bench" and found.is_sound:
        from lerobot_ext.pipelines.bench import bench

        known = [one for one in found.pipelines if one.action or one.observation]
        if not known:
            raise CommandError(
                "without features no frames can be made up", "name a robot, a checkpoint or a dataset"
            )
        totals = {one.key: bench(one, args.frames) for one in known}
    if args.json:
        write_json(_as_json(found, totals))
    else:
        out = console()
        if args.action != "check":
            _print_pipelines(out, found, totals)
        _print_findings(out, found)
    return 0 if found.is_sound else EXIT_PROBLEM


def _subject(args: Namespace) -> "Subject":
    """What the words name."""
    import json

    from lerobot_ext.doctor.checkpoint import find_checkpoint
    from lerobot_ext.doctor.dataset import find_dataset
    from lerobot_ext.pipelines.survey import Subject

    if args.policy_type:
        raise CommandError(
            f"--policy.type={args.policy_type} names no checkpoint, and only a checkpoint has steps and "
            "statistics",
            "say --policy.path=RUN/checkpoints/last/pretrained_model",
        )
    robot = features = stats = None
    words = [word for word in args.passed_on if word != f"--robot.pipeline={args.file}"]
    if words:
        from lerobot_ext.serving.devices import make_robot

        robot = make_robot(words)
    if args.repo_id or args.root:
        folder = find_dataset(args.repo_id, args.root)
        try:
            features = json.loads((folder / "meta/info.json").read_bytes())["features"]
            path = folder / "meta/stats.json"
            stats = json.loads(path.read_bytes()) if path.is_file() else {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CommandError(
                f"{folder} cannot be read as a dataset: {error}",
                f"`lerobot-ext doctor --dataset.root={folder}` says what is wrong",
            ) from None
        stats = {name: _as_arrays(value) for name, value in stats.items()}
    return Subject(robot, features, stats, find_checkpoint(args.policy) if args.policy else None)


def _as_arrays(stats: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    return {name: np.asarray(value) for name, value in stats.items()}


def _print_pipelines(out: Any, found: "Survey", totals: "dict[str, StepReport]") -> None:
    from lerobot_ext.cli.look import table

    timed = bool(totals)
    for pipeline in found.pipelines:
        rows = []
        for index, (step, made) in enumerate(zip(pipeline.steps, pipeline.made, strict=True)):
            row = [index, step.name, _config(step.config, made)]
            row += [_microseconds(step)] if timed else [_features(step.before), _behind(step)]
            rows.append(row)
        if pipeline.key in totals:
            rows.append(["", "all steps", "", _microseconds(totals[pipeline.key])])
        columns = ["", "step", "configuration", *(["µs a frame p50 / p99"] if timed else ["in", "out"])]
        out.print(table(pipeline.key, columns, rows))


def _print_findings(out: Any, found: "Survey") -> None:
    for one in found.findings:
        remedy = f" Remedy: {one.remedy}." if one.remedy else ""
        out.print(f"{one.severity}: {one.what}.{remedy}", markup=False)
    if found.is_sound:
        steps = sum(len(one.steps) for one in found.pipelines)
        out.print(
            f"{found.path}: {steps} steps in {len(found.pipelines)} pipelines, nothing wrong", markup=False
        )


def _config(config: dict[str, Any], step: Any) -> str:
    """What of a configuration is not as by default."""
    from dataclasses import MISSING, fields, is_dataclass

    usual = {}
    for one in fields(step) if is_dataclass(step) else ():
        usual[one.name] = one.default_factory() if one.default_factory is not MISSING else one.default
    text = ", ".join(f"{n}={v}" for n, v in config.items() if n not in usual or usual[n] != v)
    return text if len(text) <= 120 else f"{text[:119]}…"


def _features(features: dict[str, str]) -> str:
    """Names with their shapes, those of one kind together."""
    shown: dict[str, list[str]] = {}
    for name, what in features.items():
        side = "action " if name.startswith("action ") else ""
        shown.setdefault(f"{side}{what}", []).append(name.removeprefix("action "))
    return "\n".join(f"{what}: {', '.join(names)}" for what, names in shown.items()) or "-"


def _behind(step: "StepReport") -> str:
    """Features behind a step; a word where it leaves them alone."""
    return "the same" if step.before and step.after == step.before else _features(step.after)


def _microseconds(step: "StepReport") -> str:
    return "-" if step.us_p50 is None else f"{step.us_p50:.1f} / {step.us_p99:.1f}"


def _as_json(found: "Survey", totals: "dict[str, StepReport]") -> dict[str, Any]:
    from dataclasses import asdict

    pipelines = []
    for one in found.pipelines:
        made: dict[str, Any] = {"name": one.key, "steps": [asdict(step) for step in one.steps]}
        if one.key in totals:
            made |= {"us_p50": totals[one.key].us_p50, "us_p99": totals[one.key].us_p99}
        pipelines.append(made)
    return {
        "path": found.path,
        "sound": found.is_sound,
        "pipelines": pipelines,
        "findings": [asdict(one) for one in found.findings],
    }


# --- add


def _add(args: Namespace) -> int:
    from dataclasses import asdict

    from lerobot.utils.import_utils import register_third_party_plugins

    from lerobot_ext.cli.look import console, write_json
    from lerobot_ext.hub.checkpoint import CheckpointError, find_checkpoint
    from lerobot_ext.pipelines.checkpoint import add_steps
    from lerobot_ext.pipelines.file import POLICY_SIDE
    from lerobot_ext.pipelines.insertion import ExtraSteps

    if not args.steps and not args.post:
        raise CommandError("no steps were named", "give --steps=FILE, --post=FILE, or both")
    if args.passed_on:
        raise CommandError(f"{args.passed_on[0]} means nothing here", "see `lerobot-ext pipeline add --help`")
    register_third_party_plugins()
    try:
        folder = find_checkpoint(Path(args.policy).expanduser())
    except CheckpointError as error:
        raise CommandError(str(error), error.remedy) from error
    places = dict(zip(POLICY_SIDE, (args.where, args.post_where), strict=True))
    extra = ExtraSteps.load(args.steps, args.post, {key: place for key, place in places.items() if place})
    with _aside():
        done = add_steps(folder, extra, args.out, dry_run=args.dry_run)
    if args.json:
        write_json(asdict(done) | {"dry_run": args.dry_run})
        return 0
    out = console()
    for key, placed in done.placed.items():
        out.print(
            f"{key}: {', '.join(placed['steps'])} at {', '.join(map(str, placed['places']))}", markup=False
        )
    for name, shapes in done.inputs.items():
        out.print(f"{name}: {shapes['before']} becomes {shapes['after']} for the policy", markup=False)
    if done.packages:
        out.print(f"needs now, besides: {', '.join(done.packages)}", markup=False)
    acted = "it loads and acts" if done.acted else "adapters: it was not made to act"
    what = "dry run, nothing was changed" if args.dry_run else f"wrote {done.checkpoint}"
    out.print(f"{what}; {acted}", markup=False)
    return 0


PIPELINE = Command(
    name="pipeline",
    summary="Files of processor steps: show, check and time them, and add them to a checkpoint.",
    example="lerobot-ext pipeline check steps.json --robot.type=koch_follower --robot.port=/dev/ttyACM0",
    configure=_configure,
    run=_run,
    pass_on=("--robot.",),
)
