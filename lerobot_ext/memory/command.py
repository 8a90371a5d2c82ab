# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext memory`: what training a policy needs of memory, before it is trained."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option
from lerobot_ext.memory.sizes import read_size

if TYPE_CHECKING:
    from lerobot_ext.memory.report import Report


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no count: 1 or more")
    return int(text)


def _bytes(text: str) -> int:
    try:
        return read_size(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _picture(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise ArgumentTypeError(f"{text!r} is no size of pictures: HEIGHTxWIDTH, such as 480x640")
    return int(height), int(width)


def _configure(parser: ArgumentParser) -> None:
    parser.usage = (
        "lerobot-ext memory --policy.type=TYPE | --policy.path=DIR [--dataset.repo_id=… --dataset.root=…] "
        "[--batch_size N] [--memory 24GiB] [--policy.FIELD=…] [--optimizer.type=…] [--measure WHEN] [--json]"
    )
    parser.add_argument("--batch_size", type=_count, default=8, metavar="N", help="samples a step (8)")
    parser.add_argument(
        "--memory",
        type=_bytes,
        metavar="SIZE",
        help="find the largest batch for so much, such as 24GiB (default: what this machine's GPU has)",
    )
    parser.add_argument(
        "--reserve",
        type=_bytes,
        default=2**30,
        metavar="SIZE",
        help="of it, for the GPU's driver and for gaps between tensors (1GiB)",
    )
    parser.add_argument("--lora", type=_count, metavar="R", help="freeze the policy, with adapters of rank R")
    parser.add_argument(
        "--measure",
        choices=("auto", "yes", "no", "only"),
        default="auto",
        help="train two steps for real and measure, beside or instead of the estimate (auto: if there is a "
        "GPU)",
    )
    parser.add_argument("--no-savings", action="store_true", help="do not estimate what would save memory")
    parser.add_argument("--depth", type=_count, default=3, metavar="N", help="submodules so deep (3)")
    group = parser.add_argument_group("a made-up robot, without a dataset or checkpoint")
    group.add_argument("--cameras", type=int, default=2, metavar="N", help="(2)")
    group.add_argument(
        "--pictures", type=_picture, default=(480, 640), metavar="HxW", help="size of pictures (480x640)"
    )
    group.add_argument("--state", type=_count, default=6, metavar="N", help="width of observation.state (6)")
    group.add_argument("--action", type=_count, default=6, metavar="N", help="width of action (6)")
    add_json_option(parser)


def _run(args: Namespace) -> int:
    from lerobot_ext.cli.look import console, write_json
    from lerobot_ext.memory import report

    words = list(args.passed_on)
    if not any(word.startswith("--policy.") for word in words):
        raise CommandError("there is no policy", "say --policy.type=act, or --policy.path=DIR")
    with console(stderr=True).status("Loading LeRobot …") as status:
        found = _examine(args, words, status)
    if args.json:
        write_json(report.as_json(found))
    else:
        report.show(console(), found, args.depth)
    return 0


def _examine(args: Namespace, words: list[str], status: Any) -> Report:
    from dataclasses import replace

    from lerobot_ext.memory import measure, report, savings, step
    from lerobot_ext.memory.subject import Robot, open_subject

    height, width = args.pictures
    subject = open_subject(words, Robot(args.state, args.action, args.cameras, height, width))
    if args.lora:
        subject = replace(subject, lora_rank=args.lora)
    optimizer = report.read_optimizer(words, subject.config)
    on_cpu = "--policy.device=cpu" in words
    amp = step.uses_autocast(subject.config)
    foreach = None if on_cpu else True
    found = report.Report(subject, args.batch_size, optimizer.type, amp=amp, limit=None)
    if args.measure != "only":
        status.update(f"Estimating a step of {subject.config.type}, batch of {args.batch_size} …")
        found.usage = step.estimate(subject, args.batch_size, optimizer, amp=amp, foreach=foreach)
        found.limit = args.memory or report.available(on_cpu=on_cpu)
        if found.limit is not None:
            status.update("Looking for the largest batch …")
            room = found.limit - args.reserve
            found.largest, found.at_largest = savings.largest_batch(
                subject, found.usage, optimizer, room, amp=amp, foreach=foreach
            )
        if not args.no_savings:
            found.savings = list(
                savings.savings(
                    subject,
                    args.batch_size,
                    optimizer,
                    amp=amp,
                    foreach=foreach,
                    tell=lambda what: status.update(f"Estimating: {what} …"),
                )
            )
    device = "cpu" if on_cpu else measure.device_of_measurement()
    if args.measure in ("yes", "only") or (args.measure == "auto" and device == "cuda"):
        status.update(f"Training two steps on {device} …")
        found.measured = measure.measure(subject, args.batch_size, optimizer, device, amp=amp)
    return found


MEMORY = Command(
    name="memory",
    summary="Estimate what training a policy needs of memory, by module, and the largest batch that fits.",
    example="lerobot-ext memory --policy.type=act --batch_size 8 --memory 24GiB",
    configure=_configure,
    run=_run,
    pass_on=("--policy.", "--dataset.", "--optimizer."),
)
