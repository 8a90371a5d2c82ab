# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext robot-client`: drive a robot with a policy that runs on a `lerobot-ext policy-server`."""

import json
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lerobot_ext.cli.command import Command, CommandError

if TYPE_CHECKING:
    from lerobot_ext.serving.link import Link, Server
    from lerobot_ext.serving.robot_client import RunCounts

# LeRobot's names; the functions are its own, its module is imported only when the client runs.
AGGREGATES: Final = ("weighted_average", "latest_only", "average", "conservative")


def _configure(parser: ArgumentParser) -> None:
    parser.description = (
        "Drive a robot with a policy that runs on a `lerobot-ext policy-server`. The robot is given as to "
        "the stock commands: --robot.type=… --robot.port=… and so on, plugins included. No dataset is "
        "recorded: use lerobot-rollout for that."
    )
    server = parser.add_argument_group("server")
    server.add_argument(
        "--server", default="127.0.0.1:8080", metavar="HOST:PORT", help="(default: %(default)s)"
    )
    server.add_argument(
        "--policy",
        default="",
        metavar="NAME",
        help="a policy of the server's list; may be left out if it has one",
    )
    server.add_argument(
        "--token-file", type=Path, metavar="FILE", help="the server's secret (or LEROBOT_EXT_TOKEN)"
    )
    server.add_argument(
        "--tls", action="store_true", help="use TLS with the system's certificate authorities"
    )
    server.add_argument(
        "--tls-ca",
        type=Path,
        metavar="PEM",
        help="use TLS and trust these (a self-signed certificate itself)",
    )
    server.add_argument(
        "--insecure-network",
        action="store_true",
        help="connect over a network without TLS: who listens in can take the token and drive the robot",
    )
    server.add_argument(
        "--give-up-s",
        type=float,
        default=30.0,
        metavar="S",
        help="end when the server is away for so long (default: %(default)s)",
    )
    run = parser.add_argument_group("running")
    run.add_argument("--task", default="", help="what the robot is to do, in words")
    run.add_argument("--fps", type=float, default=30.0, help="actions a second (default: %(default)s)")
    run.add_argument(
        "--duration", type=float, default=0.0, metavar="S", help="end after S seconds (default: at Ctrl-C)"
    )
    run.add_argument(
        "--chunk_size_threshold",
        "--chunk-size-threshold",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="send an observation when this share of a chunk is left (default: %(default)s)",
    )
    run.add_argument(
        "--aggregate",
        choices=AGGREGATES,
        default="weighted_average",
        help="how a new chunk meets queued actions; LeRobot's functions (default: %(default)s)",
    )
    run.add_argument(
        "--actions_per_chunk",
        "--actions-per-chunk",
        type=int,
        default=0,
        metavar="N",
        help="most actions of a chunk to ask for (default: all)",
    )
    pictures = parser.add_argument_group("pictures")
    pictures.add_argument(
        "--image_quality",
        "--image-quality",
        type=int,
        default=0,
        metavar="1-100",
        help="send pictures as JPEG of this quality (default: as they are)",
    )
    pictures.add_argument(
        "--resize-images", action="store_true", help="scale pictures to the policy's size before sending"
    )
    pictures.add_argument(
        "--rename-map",
        type=json.loads,
        default={},
        metavar="JSON",
        help='the robot\'s names to the policy\'s: {"observation.images.top": "observation.images.cam0"}',
    )
    report = parser.add_argument_group("report")
    report.add_argument(
        "--trace", type=Path, metavar="FILE.jsonl", help="write each executed action with number and time"
    )
    report.add_argument("--json", action="store_true", help="print the summary as one JSON line")


def _run(args: Namespace) -> int:
    from lerobot_ext.serving.extra import require_grpc

    require_grpc()
    _check(args)
    server = _server(args)

    from lerobot_ext.cli.look import console

    out = console(stderr=True)
    with out.status("Importing LeRobot …"):
        import logging

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        from lerobot.utils.process import ProcessSignalHandler

        from lerobot_ext.serving.devices import make_robot

        stop = ProcessSignalHandler(use_threads=True).shutdown_event
        robot = make_robot(args.passed_on)
    return _drive(args, server, robot, stop)


def _drive(args: Namespace, server: "Server", robot: Any, stop: threading.Event) -> int:
    """Server first, robot last: what does not fit is known before an arm gets torque."""
    from lerobot.async_inference.configs import get_aggregate_function

    from lerobot_ext.cli.look import console
    from lerobot_ext.serving.link import Link, LinkError
    from lerobot_ext.serving.messages import Join
    from lerobot_ext.serving.robot_client import (
        Pace,
        RobotClient,
        RunCounts,
        followed_actions,
        observed_features,
    )
    from lerobot_ext.serving.timesteps import TimestepQueue

    out = console(stderr=True)
    join = Join(
        policy=args.policy,
        robot_type=robot.name,
        features=observed_features(robot.observation_features),
        action_names=followed_actions(robot.action_features),
        rename_map=args.rename_map,
        resize=args.resize_images,
        jpeg=args.image_quality > 0,
        actions_per_chunk=args.actions_per_chunk,
    )
    queue = TimestepQueue(get_aggregate_function(args.aggregate))
    link = Link(
        server,
        join,
        queue,
        args.give_up_s,
        args.image_quality or 90,
        say=lambda text: out.print(text, markup=False),
    )
    counts, started = RunCounts(), time.monotonic()
    try:
        link.start()
        with out.status(f"Asking {server.address} for the policy …"):
            welcome = link.wait_until_welcome(stop)
        if welcome is not None:
            out.print(
                f"{server.address} runs {welcome.policy} ({welcome.policy_type}), "
                f"chunks of {welcome.chunk_size} actions",
                markup=False,
            )
            try:
                robot.connect()
                with out.status("driving") as status:
                    tell = _teller(status, link) if out.is_terminal else _tell_nothing
                    pace = Pace(args.fps, args.duration, args.chunk_size_threshold, args.task)
                    client = RobotClient(robot, link, queue, pace, args.trace, tell)
                    counts = client.counts
                    client.run(stop)
            finally:
                if robot.is_connected:
                    robot.disconnect()
    except LinkError as error:
        raise CommandError(str(error)) from None
    except (ConnectionError, ValueError) as error:
        raise CommandError(f"the robot failed: {error}") from error
    finally:
        link.close()
        _summarise(args, link, counts, time.monotonic() - started)
    return 0


def _check(args: Namespace) -> None:
    """Refuse values that make no sense, before anything is imported or moved."""
    for name, value, low, high in (
        ("--fps", args.fps, 0.1, 1000),
        ("--duration", args.duration, 0, 1e9),
        ("--chunk_size_threshold", args.chunk_size_threshold, 0, 1),
        ("--give-up-s", args.give_up_s, 0, 1e9),
        ("--image_quality", args.image_quality, 0, 100),
        ("--actions_per_chunk", args.actions_per_chunk, 0, 4096),
    ):
        if not low <= value <= high:
            raise CommandError(f"`{name}` {value:g} is not between {low:g} and {high:g}")
    if args.trace is not None and (args.trace.is_dir() or not args.trace.parent.is_dir()):
        raise CommandError(
            f"`--trace` {args.trace} cannot be written", "name a file in a folder that is there"
        )
    names = args.rename_map
    if not isinstance(names, dict) or not all(isinstance(value, str) for value in names.values()):
        raise CommandError("`--rename-map` must be a JSON object of names")
    if not any(word.startswith("--robot.type") for word in args.passed_on):
        raise CommandError("no robot is given", "add --robot.type=… and its options, as for lerobot-rollout")


def _server(args: Namespace) -> "Server":
    from lerobot_ext.serving.access import check_exposure, join_address, read_token, split_address

    host, port = split_address(args.server)
    token = read_token(args.token_file)
    tls = args.tls or args.tls_ca is not None
    check_exposure(host, token, tls=tls, insecure_network=args.insecure_network, role="client")
    if args.tls_ca is not None and not args.tls_ca.is_file():
        raise CommandError(f"`--tls-ca` {args.tls_ca} is no file", "name the server's certificate, PEM")
    from lerobot_ext.serving.link import Server

    return Server(join_address(host, port), token, tls, args.tls_ca)


def _teller(status: Any, link: "Link") -> Any:
    """Keeps the status line up to date, twice a second."""
    shown_at = 0.0

    def tell(counts: "RunCounts") -> None:
        nonlocal shown_at
        if (now := time.monotonic()) - shown_at > 0.5:
            shown_at = now
            p50 = link.round_trips.percentile(0.5)
            status.update(
                f"{'driving' if link.connected else 'server away'}: action {counts.last_action}, held "
                f"{counts.held}, round trip p50 {'-' if p50 is None else f'{p50:.0f} ms'}"
            )

    return tell


def _tell_nothing(counts: "RunCounts") -> None:
    """Without a terminal there is no status line."""


def _summarise(args: Namespace, link: "Link", counts: "RunCounts", seconds: float) -> None:
    summary = {
        "actions": counts.actions,
        "last_action": counts.last_action,
        "ticks": counts.ticks,
        "held_ticks": counts.held,
        "ticks_before_first_action": counts.waited,
        "slow_ticks": counts.slow_ticks,
        "observations": link.counts.sent,
        "chunks": link.counts.chunks,
        "late_actions": link.counts.late_actions,
        "reconnects": max(link.counts.connections - 1, 0),
        "megabytes_out": round(link.counts.bytes_out / 1e6, 3),
        "round_trip": link.round_trips.plain(),
        "seconds": round(seconds, 2),
    }
    if args.json:
        sys.stdout.write(json.dumps(summary) + "\n")
        return
    trip = link.round_trips.plain()
    sys.stdout.write(
        f"client ended: {counts.actions} actions in {counts.ticks} ticks ({counts.held} held), "
        f"{link.counts.chunks} chunks, round trip p50 {trip['p50_ms']} ms, p95 {trip['p95_ms']} ms, "
        f"{summary['reconnects']} reconnects\n"
    )


ROBOT_CLIENT = Command(
    name="robot-client",
    summary="Drive a robot with a policy that runs on a policy-server.",
    example="lerobot-ext robot-client --server 127.0.0.1:8080 --robot.type=koch_follower "
    "--robot.port=/dev/ttyACM0 --robot.id=me --task 'Lift the red cube.'",
    configure=_configure,
    run=_run,
    pass_on=("--robot.",),
)
