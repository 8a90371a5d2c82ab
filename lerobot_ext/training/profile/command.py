# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext profile`: where the time of a training step goes, for any policy and dataset."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option

if TYPE_CHECKING:
    from lerobot_ext.training.profile.session import Profile

# Options of lerobot-train that change a step; those that change a run's length or what it leaves are ours.
PASSED_ON = (
    "--policy.",
    "--dataset.",
    "--optimizer.",
    "--scheduler.",
    "--peft.",
    "--sample_weighting.",
    "--config_path",
    "--batch_size",
    "--num_workers",
    "--prefetch_factor",
    "--persistent_workers",
    "--dataloader_multiprocessing_context",
    "--use_policy_training_preset",
    "--rename_map",
    "--seed",
    "--tolerance_s",
    "--cudnn_deterministic",
)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no number of steps: 1 or more")
    return int(text)


def _configure(parser: ArgumentParser) -> None:
    parser.usage = (
        "lerobot-ext profile OPTION-OF-lerobot-train… [--steps K] [--trace FILE] [--top N] [--json]"
    )
    parser.add_argument("--steps", type=_count, default=10, metavar="K", help="steps to time (default: 10)")
    parser.add_argument(
        "--trace",
        type=Path,
        default=Path("trace.json.gz"),
        metavar="FILE",
        help="Chrome trace, for chrome://tracing or ui.perfetto.dev (default: trace.json.gz)",
    )
    parser.add_argument("--top", type=_count, default=12, metavar="N", help="operations to list (12)")
    add_json_option(parser)


def _run(args: Namespace) -> int:
    if not any(word.startswith(("--policy.", "--config_path")) for word in args.passed_on):
        raise CommandError("there is nothing to profile", "say --policy.type=… and --dataset.repo_id=…")
    if not args.trace.name.endswith((".json", ".json.gz")):
        raise CommandError(f"--trace {args.trace} is of no known format", "end it in .json or .json.gz")
    from lerobot_ext.cli.look import console, write_json
    from lerobot_ext.training.profile import session

    try:
        found = session.run(args.passed_on, args.steps, args.trace)
    except (OSError, ValueError) as error:
        raise CommandError(
            f"the training did not run: {type(error).__name__}: {error}",
            "run lerobot-train with the same options and --steps=1 to see more",
        ) from error
    if args.json:
        write_json(_as_json(found, args.top))
        return 0
    _show(console(), found, args.top)
    return 0


def _show(out: Any, found: "Profile", top: int) -> None:
    """The tables, for people."""
    from lerobot_ext.cli.look import table
    from lerobot_ext.training.profile import spans

    phases = found.phases()
    step = phases[spans.STEP]
    rows = [
        (name, f"{1e3 * seconds:.1f}", f"{100 * seconds / step:.0f} %") for name, seconds in phases.items()
    ]
    out.print(
        f"{found.parameters / 1e6:.2f} M parameters on {found.device}, batch of {found.batch_size}; median "
        f"of {len(found.steps)} steps: {found.batch_size / step:.3g} samples/s"
    )
    out.print(table("", ["phase", "ms", "share"], rows))
    columns = ["operation", "calls", "CPU ms", "device ms", "MB allocated"]
    n = len(found.steps)
    shown = [
        (
            entry.name,
            f"{entry.calls / n:.0f}",
            f"{1e3 * entry.cpu_s / n:.2f}",
            f"{1e3 * entry.device_s / n:.2f}",
            f"{entry.memory_bytes / n / 1e6:.1f}".replace("-0.0", "0.0"),
        )
        for entry in found.operations[:top]
    ]
    out.print(table("longest operations, for a step, themselves alone, under the profiler", columns, shown))
    device = f", on the device {found.device_bytes / 1e6:.0f} MB" if found.device_bytes else ""
    out.print(f"memory of the process: {found.rss_bytes / 1e6:.0f} MB{device}")
    out.print(f"trace: {found.trace} (chrome://tracing or ui.perfetto.dev)", markup=False)
    advice = _advice(phases)
    if advice:
        out.print(advice, markup=False)


def _advice(phases: dict[str, float]) -> str:
    """What to do about a step that mostly waits."""
    from lerobot_ext.training.profile import spans

    share = phases[spans.DATA] / phases[spans.STEP]
    if share < 0.3:
        return ""
    return f"{100 * share:.0f} % of a step waits for data: raise --num_workers, or make its reading cheaper."


def _as_json(found: "Profile", top: int) -> dict[str, Any]:
    return {
        "device": found.device,
        "parameters": found.parameters,
        "batch_size": found.batch_size,
        "steps": len(found.steps),
        "seconds": found.phases(),
        "operations": found.operations[:top],
        "rss_bytes": found.rss_bytes,
        "device_bytes": found.device_bytes,
        "trace": found.trace.resolve() if found.trace else None,
    }


PROFILE = Command(
    name="profile",
    summary="Measure where the time of a training step goes, for any policy and dataset.",
    example="lerobot-ext profile --policy.type=act --dataset.repo_id=user/data --batch_size=8 --steps 10",
    configure=_configure,
    run=_run,
    pass_on=PASSED_ON,
)
