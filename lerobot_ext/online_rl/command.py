# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext train-online`: go on learning in an environment. Cheap to import."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command
from lerobot_ext.cli.look import add_json_option
from lerobot_ext.online_rl.settings import NAMES, OnlineSettings

if TYPE_CHECKING:
    from lerobot_ext.online_rl.options import Plan
    from lerobot_ext.online_rl.trainer import Report

INTERRUPTED = 130

_HELP = {
    "online_steps": "steps of the environment to collect",
    "warmup_steps": "steps before the first update",
    "utd": "updates for each step after those",
    "prior_share": "share of the prior data in a batch",
    "batch_size": "frames an update",
    "n_envs": "episodes collected side by side",
    "exploration_noise": "added to normalised actions, beyond the policy's own exploration",
    "replay_frames": "collected frames that are learned from, the newest",
    "eval_freq": "steps between evaluations, 0 for none",
    "eval_episodes": "of each evaluation, always the same",
    "eval_seed": "of the first of them",
    "save_freq": "steps between checkpoints",
    "log_freq": "steps between rows of metrics.csv",
    "seed": "of all randomness",
    "num_workers": "processes that read the prior data",
}


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _configure(parser: ArgumentParser) -> None:
    parser.usage = (
        "lerobot-ext train-online --policy.path=DIR --env.type=koch --env.task=lift --dataset.repo_id=PRIOR "
        "[--dataset.root=DIR] [--output_dir=DIR] [--online_steps N] … | --output_dir=DIR --resume=true"
    )
    parser.add_argument("--output_dir", type=Path, metavar="DIR", help="(outputs/online/DATE/TIME_…)")
    parser.add_argument(
        "--resume",
        type=_truth,
        nargs="?",
        const=True,
        default=False,
        metavar="true",
        help="go on with the run in --output_dir, as if it had not been stopped",
    )
    for field in fields(OnlineSettings):
        kind = type(field.default)
        text = f"{_HELP[field.name]} ({field.default})"
        parser.add_argument(f"--{field.name}", type=kind, metavar="N", help=text)
    add_json_option(parser)


def _run(args: Namespace) -> int:
    from lerobot_ext.cli.look import write_json

    given = {name: getattr(args, name) for name in NAMES if getattr(args, name) is not None}
    # LeRobot prints now and then; stdout is for results.
    with contextlib.redirect_stdout(sys.stderr):
        _load()
        from lerobot_ext.online_rl import options

        make = options.resumed if args.resume else options.fresh
        plan = make(args.passed_on, given, args.output_dir)
        finished, report = _train(plan)
    if args.json:
        write_json({"output_dir": plan.folder, "finished": finished, "progress": report.progress,
                    "evaluation": report.evaluation})  # fmt: skip
    else:
        _show(plan, report, finished)
    return 0 if finished else INTERRUPTED


def _load() -> None:
    """LeRobot as `lerobot-train` has it when it loads plugins, so that the same parts of ours act."""
    import lerobot.datasets.dataset_writer
    import lerobot.datasets.lerobot_dataset  # noqa: F401

    from lerobot_ext.doctor.checkpoint_child import load_plugins

    load_plugins()


def _train(plan: Plan) -> tuple[bool, Report]:
    """Run the plan; whether it came to its end, and what it told last."""
    from lerobot.utils.utils import init_logging

    from lerobot_ext.cli.look import progress
    from lerobot_ext.online_rl.building import build
    from lerobot_ext.online_rl.trainer import Trainer

    init_logging()
    plan.folder.mkdir(parents=True, exist_ok=True)
    with _stopping() as stop, progress() as bar, _logging_above(bar), build(plan) as parts:
        task = bar.add_task("env steps", total=plan.settings.online_steps)

        def tell(report: Report) -> None:
            done = min(report.progress.env_steps, plan.settings.online_steps)
            bar.update(task, completed=done, description=_line(plan, report))

        trainer = Trainer(parts, plan.settings, plan.folder, plan.progress, lambda: bool(stop), tell)
        finished = trainer.run()
        if finished and plan.cfg.policy.push_to_hub:
            _push(plan, parts)
    return finished, trainer.report


def _line(plan: Plan, report: Report) -> str:
    done = report.progress
    words = [f"env steps · success {100 * report.success:.0f} %"]
    if "env/pc_success" in report.evaluation:
        words.append(f"evaluated {report.evaluation['env/pc_success']:.0f} %")
    learned = max(1, done.env_steps - plan.settings.warmup_steps)
    words.append(f"updates {done.updates} (UTD {done.updates / learned:.2g})")
    words += [f"{name} {report.metrics[name]:.3g}" for name in ("q_of_actor", "q") if name in report.metrics]
    return " · ".join(words[:4])


@contextlib.contextmanager
def _stopping() -> Iterator[list[int]]:
    """A list that the first Ctrl-C or SIGTERM fills; the second ends the process as usual."""
    asked: list[int] = []
    before: dict[int, Any] = {}

    def ask(number: int, frame: Any) -> None:
        asked.append(number)
        sys.stderr.write("\nstopping: the state is saved; once more to end at once\n")
        signal.signal(number, before[number] or signal.SIG_DFL)

    for number in map(int, (signal.SIGINT, signal.SIGTERM)):
        before[number] = signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextlib.contextmanager
def _logging_above(bar: Any) -> Iterator[None]:
    """Log lines appear above the bar instead of through it."""
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    ]
    streams = [handler.setStream(_Above(bar)) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, streams, strict=True):
            if stream is not None:
                handler.setStream(stream)


class _Above:
    """A stream that writes whole lines above a bar."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def write(self, text: str) -> int:
        if text.strip():
            self._bar.console.print(text.rstrip("\n"), markup=False, highlight=False)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def _push(plan: Plan, parts: Any) -> None:
    """What `lerobot-train` does at its end."""
    policy = parts.accelerator.unwrap_model(parts.policy)
    policy.push_model_to_hub(plan.cfg, state_dict=None, dataset_meta=parts.dataset.meta)
    for pipeline in (parts.pipelines.pre, parts.pipelines.post):
        pipeline.push_to_hub(plan.cfg.policy.repo_id)


def _show(plan: Plan, report: Report, finished: bool) -> None:
    from lerobot_ext.cli.look import console

    out, done = console(), report.progress
    if report.evaluation:
        found = report.evaluation
        out.print(
            f"success {found['env/pc_success']:.0f} % "
            f"(95 %: {found['env/success_low']:.0f} to {found['env/success_high']:.0f})"
        )
    word = "done" if finished else "stopped"
    out.print(
        f"{word} after {done.episodes} episodes, {done.env_steps} steps, {done.updates} updates: "
        f"{plan.folder}",
        markup=False,
    )
    if not finished:
        out.print(f"go on: lerobot-ext train-online --output_dir={plan.folder} --resume=true", markup=False)


TRAIN_ONLINE = Command(
    name="train-online",
    summary="Go on training a policy that learns from rewards, in an environment, with its old data beside.",
    example=(
        "lerobot-ext train-online --policy.path=outputs/train/lapo/checkpoints/last/pretrained_model "
        "--env.type=koch --env.task=lift --dataset.repo_id=local/mixed --dataset.root=data/mixed "
        "--output_dir=outputs/online/lapo --online_steps=20000"
    ),
    configure=_configure,
    run=_run,
    pass_on=("--policy.", "--env.", "--dataset."),
)
