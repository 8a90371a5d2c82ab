# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext codec`: the encoder flags with which this machine records its cameras at full rate."""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option

if TYPE_CHECKING:
    from rich.console import Console

    from lerobot_ext.recording.choose import Row
    from lerobot_ext.recording.record_path import Recorded
    from lerobot_ext.recording.survey import Found, Plan

EXIT_NOTHING_HOLDS = 1


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} must be a whole number, 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.5 <= value <= 600:
        raise ArgumentTypeError(f"{text!r} must be seconds between 0.5 and 600")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 0.8:
        raise ArgumentTypeError(f"{text!r} must be a share between 0 and 0.8")
    return value


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdigit() and height.isdigit()):
        raise ArgumentTypeError(f"{text!r} must be like 640x480")
    return int(width), int(height)


def _configure(parser: ArgumentParser) -> None:
    parser.description = (
        f"{CODEC.summary} Takes about two minutes; close what will not run while you record.\n"
        "Exit codes: 0 flags found, 1 nothing holds, 2 wrong usage."
    )
    parser.add_argument("--cameras", type=_count, default=3, metavar="N", help="how many (default: 3)")
    parser.add_argument("--size", type=_size, default=(640, 480), metavar="WxH", help="default: 640x480")
    parser.add_argument("--fps", type=_count, default=30, metavar="F", help="frames a second (default: 30)")
    parser.add_argument(
        "--seconds", type=_seconds, default=None, metavar="S", help="length of each run (default: 5)"
    )
    parser.add_argument("--vcodec", metavar="NAME", help="only this codec: h264, hevc, h264_nvenc …")
    parser.add_argument(
        "--source",
        default="scene",
        metavar="WHAT",
        help="what to encode: scene (synthetic, default), a video, a dataset's folder, camera:INDEX",
    )
    parser.add_argument(
        "--headroom",
        type=_share,
        default=0.2,
        metavar="H",
        help="share of the speed that has to be left for cameras, arms and the rest (default: 0.2)",
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="write to this disk (default: temporary)")
    parser.add_argument("--quick", action="store_true", help="few candidates and short runs: a first idea")
    parser.add_argument("--no-store", action="store_true", help="do not keep the flags for later warnings")
    add_json_option(parser)


def _run(args: Namespace) -> int:
    from lerobot_ext.recording.load import Load

    try:
        width, height = args.size
        load = Load(args.cameras, width, height, args.fps)
    except ValueError as error:
        raise CommandError(str(error), "correct --cameras, --size or --fps") from error
    if args.folder is not None and not args.folder.is_dir():
        raise CommandError(f"--folder {args.folder} is no folder", "create it, or leave --folder out")
    from lerobot_ext.cli.look import console, write_json

    with console(stderr=True).status("Importing LeRobot …") as status:
        try:
            from lerobot_ext.recording import source, store, survey
        except ImportError as error:
            raise CommandError(
                f"LeRobot's recording does not import: {error}", "`pip install 'lerobot[dataset]'`"
            ) from error
        _check_vcodec(args.vcodec)
        plan = survey.Plan(
            load,
            seconds=args.seconds or (1.0 if args.quick else 5.0),
            headroom=args.headroom,
            vcodec=args.vcodec,
            quick=args.quick,
            folder=args.folder,
        )
        busy = _load_average()
        pictures = source.pictures(args.source, load, survey.picture_count(plan))
        found = survey.survey(plan, pictures, lambda what: status.update(f"{what} …"))
    stored = None
    if found.chosen is not None and not args.no_store and not args.quick:
        stored = store.remember(load, found.chosen.candidate.flags())
    about = {"source": args.source, "busy": busy, "stored": str(stored) if stored else None}
    if args.json:
        write_json(as_json(plan, found) | about)
    else:
        _show(console(), plan, found, source.describe(args.source), busy)
        if stored:
            console().print(f"Remembered in {stored}: our robots name them when a recording falls behind.")
    return 0 if found.chosen is not None else EXIT_NOTHING_HOLDS


def _check_vcodec(vcodec: str | None) -> None:
    """Refuse a codec that LeRobot does not take."""
    from lerobot.configs.video import VALID_VIDEO_CODECS

    known = sorted(VALID_VIDEO_CODECS - {"auto", "libaom-av1"})
    if vcodec is not None and vcodec not in known:
        raise CommandError(f"--vcodec {vcodec} is none that can be tried", f"take one of {', '.join(known)}")


def _load_average() -> float | None:
    """Processes that ran before this one, in the last minute; `None` where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def as_json(plan: "Plan", found: "Found") -> dict[str, Any]:
    """The result for programs."""
    from lerobot_ext.recording.candidates import cores

    chosen = found.chosen
    return {
        "ok": chosen is not None,
        "load": asdict(plan.load),
        "headroom": plan.headroom,
        "fed_fps": plan.fed_fps,
        "seconds": plan.seconds,
        "cores": cores(),
        "flags": chosen.candidate.flags() if chosen is not None else [],
        "verified": asdict(found.verified) if found.verified is not None else None,
        "png": asdict(found.png) if found.png is not None else None,
        "candidates": [
            {
                "name": row.candidate.name,
                "flags": row.candidate.flags(),
                "stock": row.candidate.is_stock,
                "holds": row.holds,
                "why_not": row.why_not,
                "effort": asdict(row.effort) if row.effort is not None else None,
                "pace": asdict(row.pace) if row.pace is not None else None,
            }
            for row in found.rows
        ],
        "lighter": {
            what: {"load": asdict(load), "flags": candidate.flags()}
            for what, (load, candidate) in found.lighter.items()
        },
        "hardware": found.hardware,
    }


def _cells(row: "Row", chosen: bool) -> list[str]:
    """A row of the table."""
    name = row.candidate.name + (" (stock's default)" if row.candidate.is_stock else "")
    verdict = "yes, recommended" if chosen else "yes" if row.holds else f"no: {row.why_not}"
    if row.effort is None:
        return [name, "", "", "", "", "", verdict]
    decode = row.effort.decode_cpu_ms
    numbers = [
        f"{row.effort.frames_per_s:.0f}",
        f"{row.effort.cpu_ms:.1f}",
        f"{row.effort.kb:.1f}",
        f"{row.effort.psnr:.1f}",
        f"{decode:.1f}" if decode is not None else "misses frames",
    ]
    return [name, *numbers, verdict]


def _recorded(what: str, recorded: "Recorded") -> str:
    return (
        f"{what}: {recorded.hz:.1f} Hz, {recorded.late} of {recorded.frames} frames late, "
        f"{recorded.dropped} dropped, {recorded.cpu_ms:.0f} CPU ms a frame of all cameras, "
        f"{recorded.save_s:.1f} s to save the episode"
    )


def _show(out: "Console", plan: "Plan", found: "Found", what: str, busy: float | None) -> None:
    from lerobot_ext.cli.look import table
    from lerobot_ext.recording.candidates import cores

    load = plan.load
    out.print(f"{load} on {cores()} cores, fed at {plan.fed_fps:.1f} fps; pictures: {what}", markup=False)
    if busy is not None and busy > 0.5 * cores():
        out.print(
            f"Other programs use this machine (load {busy:.1f}): the figures are too low.", markup=False
        )
    columns = ["encoder", "frames/s", "CPU ms", "kB", "PSNR", "decode CPU ms", f"holds {load.word}?"]
    out.print(table("", columns, [_cells(row, row is found.chosen) for row in found.rows]))
    absent = [name for name, problem in found.hardware.items() if problem]
    if absent:
        out.print(f"Hardware encoders that do not work here: {', '.join(absent)}.", markup=False)
    if found.png is not None:
        out.print(_recorded("Without streaming (PNG files)", found.png), markup=False)
    if found.chosen is None or found.verified is None:
        _show_lighter(out, found)
        return
    out.print(_recorded(f"Verified, {found.chosen.candidate.name}", found.verified), markup=False)
    out.print("\nRecord with:\n", markup=False)
    out.print("  " + " \\\n    ".join(found.chosen.candidate.flags()) + "\n", markup=False)


def _show_lighter(out: "Console", found: "Found") -> None:
    out.print("\nNothing holds that here.", style="bold")
    for load, candidate in found.lighter.values():
        out.print(f"This would: {load}, with {' '.join(candidate.flags())}", markup=False)
    if not found.lighter:
        out.print("Less was not tried, or does not hold either; see docs/recording.md.", markup=False)


CODEC = Command(
    name="codec",
    summary="Measure this machine and print the encoder flags that record its cameras at full rate.",
    example="lerobot-ext codec --cameras 3 --size 640x480 --fps 30",
    configure=_configure,
    run=_run,
)
