# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext hub serve DIR`: a Hub on loopback for trying push and pull without the internet."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from lerobot_ext.cli.command import Command, CommandError


def _configure(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="serve", required=True)
    serve = actions.add_parser("serve", help="serve a folder until Ctrl-C")
    serve.add_argument(
        "folder", metavar="DIR", type=Path, help="folder for the repositories; made when missing"
    )
    serve.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1 (any free one by default)")
    serve.add_argument("--token", help="accept only this token (any non-empty one by default)")


def _run(args: Namespace) -> int:
    """Serve until interrupted."""
    import shlex
    import threading

    from lerobot_ext.cli.look import console
    from lerobot_ext.testing.hub import HubServer, client_environment

    folder: Path = args.folder.expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"{folder} is a file", "name a folder; it is made when missing")
    if not 0 <= args.port <= 65535:
        raise CommandError(
            f"--port {args.port} is not a TCP port", "choose one from 1024 to 65535, or leave it out"
        )
    try:
        server = HubServer(folder, port=args.port, token=args.token)
    except OSError as error:
        raise CommandError(
            f"cannot serve {folder} on 127.0.0.1:{args.port}: {error}",
            "choose another --port (0 takes any free one) or a folder you may write to",
        ) from error
    variables = client_environment(server.url, folder.parent / f"{folder.name}_client")
    variables["HF_TOKEN"] = args.token or variables["HF_TOKEN"]
    out = console()
    with server:
        out.print(f"Hub of {folder} at {server.url}. In the shell that pushes or pulls:\n")
        for name, value in variables.items():
            out.print(f"export {name}={shlex.quote(value)}")
        out.print("\nCtrl-C stops it; the folder stays.")
        threading.Event().wait()
    return 0


HUB = Command(
    name="hub",
    summary="A Hub on this machine, to try push and pull offline.",
    example="lerobot-ext hub serve ./hub --port=8765",
    configure=_configure,
    run=_run,
)
