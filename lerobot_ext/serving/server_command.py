# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext policy-server`: run policies for a robot elsewhere."""

import json
import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lerobot_ext.cli.command import Command, CommandError

if TYPE_CHECKING:
    from lerobot_ext.serving.allowlist import AllowList
    from lerobot_ext.serving.policy_server import PolicyService

_STATUS_S: Final = 0.5


def _configure(parser: ArgumentParser) -> None:
    which = parser.add_argument_group("which policies clients may ask for (at least one)")
    which.add_argument(
        "--policy.path",
        dest="paths",
        metavar="PATH",
        action="append",
        default=[],
        help="a checkpoint folder (pretrained_model) or a Hub id; may be given several times",
    )
    which.add_argument(
        "--allow",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="every checkpoint below this folder; clients name it by its path within",
    )
    which.add_argument("--device", default="", help="where policies run (default: as each checkpoint says)")
    who = parser.add_argument_group("who may connect")
    who.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    who.add_argument("--port", type=int, default=8080, help="TCP port, 0: any (default: %(default)s)")
    who.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="the secret clients must know (or LEROBOT_EXT_TOKEN); required for any address but loopback",
    )
    who.add_argument("--tls-cert", type=Path, metavar="PEM", help="certificate chain")
    who.add_argument("--tls-key", type=Path, metavar="PEM", help="its private key")
    who.add_argument(
        "--insecure-network",
        action="store_true",
        help="listen on a network without TLS: who listens in can take the token and drive the robot",
    )
    who.add_argument(
        "--clients",
        choices=("refuse", "queue"),
        default="refuse",
        help="what becomes of a second client (default: %(default)s)",
    )
    who.add_argument(
        "--lease-s",
        type=float,
        default=10.0,
        metavar="S",
        help="a client without a sign of life for so long loses the session (default: %(default)s)",
    )
    run = parser.add_argument_group("running")
    run.add_argument(
        "--max-loaded", type=int, default=2, help="policies kept in memory (default: %(default)s)"
    )
    run.add_argument(
        "--max-megabytes",
        type=float,
        default=64.0,
        metavar="MB",
        help="largest observation; within it each policy's features set the limit (default: %(default)s)",
    )
    run.add_argument("--ready-file", type=Path, metavar="PATH.json", help="written when clients may connect")
    run.add_argument("--duration", type=float, metavar="S", help="end after S seconds (default: at Ctrl-C)")
    run.add_argument(
        "--json",
        action="store_true",
        help="print the ready information as one JSON line, and the summary as another",
    )


def _run(args: Namespace) -> int:
    from lerobot_ext.serving.access import check_exposure, read_token
    from lerobot_ext.serving.extra import require_grpc

    require_grpc()
    _check(args)
    token = read_token(args.token_file)
    check_exposure(args.host, token, tls=args.tls_cert is not None, insecure_network=args.insecure_network)
    allowed = _allowed(args)
    if args.ready_file is not None:
        # One that was killed leaves its file behind, and who waits for ours must not find that.
        args.ready_file.unlink(missing_ok=True)

    from lerobot_ext.cli.look import console

    with console(stderr=True).status("Importing LeRobot and loading policies …"):
        service = _service(args, allowed)

    from lerobot_ext.serving.policy_server import Listening, RunningServer

    stop = threading.Event()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: stop.set())
    listening = Listening(args.host, args.port, token, args.tls_cert, args.tls_key)
    try:
        with RunningServer(service, listening) as server:
            _announce(args, allowed, server.port, has_token=token is not None)
            _watch(service, stop, args.duration)
    finally:
        if args.ready_file is not None:
            args.ready_file.unlink(missing_ok=True)
    _summarise(service, as_json=args.json)
    return 0


def _check(args: Namespace) -> None:
    """Refuse options that make no sense together."""
    if (args.tls_cert is None) != (args.tls_key is None):
        raise CommandError(
            "`--tls-cert` and `--tls-key` belong together; only one was given", "give both, or neither"
        )
    for path in (args.tls_cert, args.tls_key):
        if path is not None and not path.is_file():
            raise CommandError(f"{path} is no file", "name the PEM file of the certificate or key")
    if not 0 <= args.port <= 65535:
        raise CommandError(
            f"--port {args.port} is no TCP port", "choose one from 1024 to 65535, or 0 for any"
        )
    if not 0.5 <= args.lease_s <= 3600:
        raise CommandError(f"--lease-s {args.lease_s:g} is not between 0.5 and 3600", "leave it out for 10")
    if not 0.1 <= args.max_megabytes <= 1024:
        raise CommandError(f"--max-megabytes {args.max_megabytes:g} is not between 0.1 and 1024")
    if args.max_loaded < 1:
        raise CommandError(f"--max-loaded {args.max_loaded} keeps no policy", "give 1 or more")


def _allowed(args: Namespace) -> "AllowList":
    from lerobot_ext.serving.allowlist import AllowList

    try:
        return AllowList(args.paths, args.allow)
    except ValueError as error:
        raise CommandError(str(error), "see `lerobot-ext policy-server --help`") from None


def _service(args: Namespace, allowed: "AllowList") -> "PolicyService":
    """The service, with the listed policies loaded: a broken checkpoint shows at once."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    from lerobot.utils.import_utils import register_third_party_plugins

    register_third_party_plugins()
    from lerobot_ext.serving.lease import Lease
    from lerobot_ext.serving.policy_host import PolicyFailed, PolicyHost
    from lerobot_ext.serving.policy_server import PolicyService

    host = PolicyHost(args.device, args.max_loaded)
    try:
        for entry in allowed.listed[: args.max_loaded]:
            host.load(entry)
    except PolicyFailed as error:
        raise CommandError(str(error), "`lerobot-ext doctor` examines the installation") from None
    max_message = int(args.max_megabytes * 1e6)
    return PolicyService(allowed, host, Lease(args.lease_s, args.clients), max_message=max_message)


def _announce(args: Namespace, allowed: "AllowList", port: int, *, has_token: bool) -> None:
    from lerobot_ext.serving.access import join_address

    address = join_address(args.host, port)
    ready: dict[str, Any] = {
        "address": address,
        "host": args.host,
        "port": port,
        "policies": allowed.names(),
        "token": has_token,
        "tls": args.tls_cert is not None,
        "clients": args.clients,
        "pid": os.getpid(),
    }
    if args.ready_file is not None:
        part = args.ready_file.with_suffix(".part")
        args.ready_file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(ready, indent=2), encoding="utf-8")
        part.replace(args.ready_file)
    if args.json:
        _say(json.dumps(ready))
        return
    from lerobot_ext.cli import look

    access = f"{'token' if has_token else 'no token'}, {'TLS' if ready['tls'] else 'no TLS'}"
    rows = [("address", address), ("access", access), ("second client", args.clients)]
    rows += [("policy", name) for name in ready["policies"]]
    look.console().print(look.table("Policy server", ("what", "value"), rows))
    policy = f" --policy {ready['policies'][0]}" if ready["policies"] else ""
    _say(f"lerobot-ext robot-client --server {address}{policy} --robot.type=… --robot.port=… --task '…'")
    _say("Press Ctrl-C to end the server.")


def _watch(service: "PolicyService", stop: threading.Event, duration_s: float | None) -> None:
    """Show what goes on until the end; a file gets no status line."""
    from rich.text import Text

    from lerobot_ext.cli.look import console

    end = time.monotonic() + duration_s if duration_s else None
    out = console(stderr=True)
    with out.status("nobody drives") as status:
        while not stop.wait(_STATUS_S):
            if end is not None and time.monotonic() >= end:
                return
            if out.is_terminal:
                # Text, not markup: the client chose some of these words.
                status.update(Text(_status(service)))


def _status(service: "PolicyService") -> str:
    counts, driver = service.counts, service.driver
    driving = (
        "nobody drives" if driver is None else f"{driver.join.robot_type} with {driver.policy.welcome.policy}"
    )
    p50 = counts.compute.percentile(0.5)
    policy = "" if p50 is None else f", policy p50 {p50:.0f} ms"
    return f"{driving}: {counts.chunks} chunks{policy}, {counts.refused} calls refused"


def _summarise(service: "PolicyService", *, as_json: bool) -> None:
    counts = service.counts
    summary = {
        "sessions": counts.sessions,
        "observations": counts.observations,
        "skipped": counts.skipped,
        "chunks": counts.chunks,
        "refused": counts.refused,
        "megabytes_in": round(counts.bytes_in / 1e6, 3),
        "requests_per_s": round(counts.compute.per_second(), 2),
        "compute": counts.compute.plain(),
    }
    if as_json:
        _say(json.dumps(summary))
        return
    compute = counts.compute.plain()
    _say(
        f"server ended: {counts.sessions} sessions, {counts.chunks} chunks for "
        f"{counts.observations} observations ({summary['requests_per_s']} a second), "
        f"policy p50 {compute['p50_ms']} ms, p95 {compute['p95_ms']} ms, {counts.refused} calls refused"
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


POLICY_SERVER = Command(
    name="policy-server",
    summary="Run policies for a robot on another machine, without pickle and for known clients only.",
    example="lerobot-ext policy-server --policy.path=outputs/train/checkpoints/last/pretrained_model",
    configure=_configure,
    run=_run,
)
