# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext sim`: start the virtual bench and say how to reach it."""

import json
import signal
import sys
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError

if TYPE_CHECKING:
    from lerobot_env_koch.bench.assembly import Bench, BenchConfig


MAX_DELAYED = 0.001
"""Share of replies delayed by the machine above which a run says little about a driver."""


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--task",
        default="lift",
        help="reach, lift, place, tour, choose, either or around (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of scenes, hand, faults (default: %(default)s)"
    )
    parser.add_argument("--cameras", default="top,wrist", help="cameras, or none (default: %(default)s)")
    parser.add_argument(
        "--camera-size",
        default="96x96",
        metavar="WxH",
        help="size of a frame in pixels (default: %(default)s)",
    )
    parser.add_argument("--camera-fps", type=float, default=30, help="frames a second (default: %(default)s)")
    parser.add_argument(
        "--hand",
        default="auto",
        help="auto, idle, expert, replay:FILE, or clock: positions show milliseconds (default: auto)",
    )
    parser.add_argument(
        "--fault",
        default="",
        metavar="SPEC",
        help="faults on both buses, joined by commas: drop=P, drop_every=N, burst=P@N[:L], crc=P, noise=P, "
        "truncate=P, late_ms=MS@P, txdrop=P, silent=ID:MS[@Ts], stall=MS[@Ts], chain, latency_timer=MS, "
        "alert=ID:KIND, unplug[@Ts]; T counts from the first request",
    )
    parser.add_argument(
        "--trace", type=Path, metavar="FILE.jsonl", help="write every packet down with its time and fate"
    )
    parser.add_argument(
        "--replay", type=Path, metavar="FILE.jsonl", help="repeat the fates of a written trace"
    )
    parser.add_argument(
        "--show-trace", type=Path, metavar="FILE.jsonl", help="print a written trace as a table, and end"
    )
    parser.add_argument(
        "--rows", type=int, default=40, help="packets that --show-trace prints (default: %(default)s)"
    )
    parser.add_argument(
        "--run-dir", type=Path, help="folder for port links and control socket (default: in /tmp)"
    )
    parser.add_argument("--control-socket", type=Path, metavar="PATH", help="default: RUN_DIR/control.sock")
    parser.add_argument(
        "--ready-file", type=Path, metavar="PATH.json", help="written when clients may connect"
    )
    parser.add_argument(
        "--base-port",
        type=int,
        default=5600,
        help="first TCP port of cameras and tracker, 0: any (default: 5600)",
    )
    parser.add_argument("--fresh", action="store_true", help="start with uncalibrated servos")
    parser.add_argument(
        "--calibrated",
        action="store_true",
        help="start with calibrated servos, and write LeRobot's calibration files for ids sim_follower and "
        "sim_leader",
    )
    parser.add_argument(
        "--calibration-dir",
        type=Path,
        metavar="DIR",
        help="folder for those files (default: $HF_LEROBOT_CALIBRATION or LeRobot's own)",
    )
    parser.add_argument(
        "--duration", type=float, metavar="S", help="end after S seconds (default: at Ctrl-C)"
    )
    parser.add_argument(
        "--status", action="store_true", help="print the status of the bench that runs, and end"
    )
    parser.add_argument("--json", action="store_true", help="print the ready information as one JSON line")


def _run(args: Namespace) -> int:
    if args.status:
        return _print_status(args)
    if args.show_trace is not None:
        return _show_trace(args)
    from lerobot_env_koch.bench.assembly import Bench
    from lerobot_env_koch.bench.priority import this_thread_preferred

    try:
        bench = Bench(_config(args))
    except ValueError as error:
        raise CommandError(str(error), "see `lerobot-ext sim --help`") from None
    except OSError as error:
        raise CommandError(str(error)) from None
    # From here on a signal ends the bench in order: links and socket removed, permanent memory saved.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: bench.request_stop())
    # This thread and the control socket's, which inherits from it: they too hold the interpreter at times,
    # and set aside with it they would delay the buses. The cameras' process was started before and stays as
    # it is.
    try:
        # The bench ends after that, in a thread of ordinary priority: one that waits for a child's end can
        # spin in the kernel until somebody else gets the core.
        with ExitStack() as stack, this_thread_preferred():
            stack.enter_context(bench)
            _announce(bench, args)
            bench.wait(args.duration)
            status = bench.status()
    except RuntimeError as error:
        raise CommandError(str(error), "run again with `--cameras none` to rule the cameras out") from None
    finally:
        if args.ready_file is not None:
            args.ready_file.unlink(missing_ok=True)
    if not args.json:
        _say(
            f"bench ended after {status['uptime_s']} s: {status['lifts']} successes in {status['attempts']} "
            f"attempts, {status['late_replies']} replies delayed by this machine"
        )
    if warning := _delay_warning(status):
        sys.stderr.write(warning + "\n")
    return 0


def _delay_warning(status: dict[str, Any]) -> str:
    """What to say when the machine itself delayed too many replies; empty if it did not."""
    buses = status["buses"].values()
    n_delays = sum(bus["n_late"] + bus["n_stalls"] for bus in buses)
    n_replies = sum(bus["n_status"] for bus in buses)
    if n_delays <= MAX_DELAYED * n_replies:
        return ""
    worst_ms = max(max(bus["max_late_ms"], bus["max_stall_ms"]) for bus in buses)
    return (
        f"warning: this machine delayed the bench {n_delays} times in {n_replies} replies (at worst by "
        f"{worst_ms:g} ms): do not judge a driver by this run. Close other programs, leave cameras out "
        "(`--cameras none`), or allow real-time priority (`ulimit -r`)."
    )


def _config(args: Namespace) -> "BenchConfig":
    from lerobot_env_koch.bench.assembly import BenchConfig, default_run_dir
    from lerobot_env_koch.bench.faults import FaultPlan
    from lerobot_env_koch.bench.hand import HandMode

    width, height = _size(args.camera_size)
    names = [name.strip() for name in args.cameras.split(",")]
    return BenchConfig(
        task=args.task,
        seed=args.seed,
        cameras=tuple(name for name in names if name and name != "none"),
        camera_height=height,
        camera_width=width,
        camera_fps=args.camera_fps,
        hand=HandMode.parse(args.hand),
        faults=FaultPlan.parse(args.fault),
        run_dir=args.run_dir.absolute() if args.run_dir else default_run_dir(),
        control_socket=args.control_socket.absolute() if args.control_socket else None,
        base_port=args.base_port,
        fresh=args.fresh,
        calibrated=args.calibrated,
        calibration_dir=args.calibration_dir.absolute() if args.calibration_dir else None,
        trace=args.trace,
        replay=args.replay,
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    try:
        return int(width), int(height)
    except ValueError:
        raise ValueError(f"`--camera-size` {text!r} is not a size; write WIDTHxHEIGHT, e.g. 96x96.") from None


def _announce(bench: "Bench", args: Namespace) -> None:
    ready = bench.ready()
    if args.ready_file is not None:
        part = args.ready_file.with_suffix(".part")
        args.ready_file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(ready, indent=2), encoding="utf-8")
        part.replace(args.ready_file)
    if args.json:
        _say(json.dumps(ready))
        return
    from lerobot_ext.cli import look

    rows = [(f"{name} port", f"{port} -> {ready['ttys'][name]}") for name, port in ready["ports"].items()]
    for name, camera in ready["cameras"].items():
        address = f"tcp://{camera['server_address']}:{camera['port']}"
        rows.append(
            (f"camera {name}", f"{address}  {camera['width']}x{camera['height']} at {camera['fps']} fps")
        )
    rows.append(("tracker", ready["tracker"]["address"]))
    rows.append(("control socket", ready["control_socket"]))
    rows += [(f"{name} calibration", path) for name, path in ready["calibration_files"].items()]
    if bench.trace is not None:
        rows.append(("trace", str(bench.trace.path)))
    title = f"Koch bench, task {ready['task']}, seed {ready['seed']}"
    look.console().print(look.table(title, ("what", "where"), rows))
    _say("Stock commands for another terminal:\n")
    for command in stock_commands(ready):
        _say(command + "\n")
    _say("Press Ctrl-C to end the bench.")


def stock_commands(ready: dict[str, Any]) -> list[str]:
    """Ready-to-paste stock LeRobot commands for a bench.

    Args:
        ready (`dict`): What `Bench.ready` returned, or the content of `--ready-file`.
    """
    follower = f"--robot.type=koch_follower --robot.port={ready['ports']['follower']} --robot.id=sim_follower"
    leader = f"--teleop.type=koch_leader --teleop.port={ready['ports']['leader']} --teleop.id=sim_leader"
    if ready["calibration_dir"]:
        follower += f" --robot.calibration_dir={ready['calibration_dir']}/robots/koch_follower"
        leader += f" --teleop.calibration_dir={ready['calibration_dir']}/teleoperators/koch_leader"
    commands = [f"lerobot-teleoperate \\\n  {follower} \\\n  {leader} \\\n  --fps=30 --teleop_time_s=20"]
    if not ready["calibration_files"]:
        commands = [f"lerobot-calibrate {follower}", f"lerobot-calibrate {leader}", *commands]
    cameras = camera_argument(ready)
    record = f"lerobot-record \\\n  {follower} \\\n  {leader} \\\n"
    if cameras:
        record += f"  --robot.cameras='{cameras}' \\\n"
    record += (
        f"  --dataset.repo_id=me/koch_sim --dataset.single_task='{ready['task']}' \\\n"
        "  --dataset.num_episodes=2 --dataset.episode_time_s=10 --dataset.reset_time_s=2 \\\n"
        "  --dataset.push_to_hub=false --play_sounds=false"
    )
    return [*commands, record]


def camera_argument(ready: dict[str, Any]) -> str:
    """Value of `--robot.cameras` for a bench's cameras; empty when it has none."""
    items = []
    for name, camera in ready["cameras"].items():
        fields = ", ".join(f"{key}: {value}" for key, value in camera.items())
        items.append(f"{name}: {{{fields}}}")
    return "{" + ", ".join(items) + "}" if items else ""


def _print_status(args: Namespace) -> int:
    from lerobot_env_koch.bench.assembly import default_run_dir
    from lerobot_env_koch.bench.control import BenchClient

    path = args.control_socket or (args.run_dir or default_run_dir()) / "control.sock"
    try:
        with BenchClient(path) as client:
            status = client.request("status")
    except (ConnectionError, RuntimeError) as error:
        raise CommandError(str(error)) from None
    _say(json.dumps(status, indent=None if args.json else 2))
    return 0


def _show_trace(args: Namespace) -> int:
    from lerobot_env_koch.bench.show_trace import show
    from lerobot_env_koch.bench.trace import Trace

    try:
        trace = Trace.read(args.show_trace)
    except ValueError as error:
        raise CommandError(str(error), "write one with `lerobot-ext sim --trace FILE.jsonl`") from None
    show(trace, max_rows=args.rows, as_json=args.json)
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


SIM = Command(
    name="sim",
    summary="Run a virtual Koch bench: leader, follower, cameras and a scripted hand for the stock CLIs.",
    example="lerobot-ext sim --task lift --cameras top,wrist",
    configure=_configure,
    run=_run,
)
