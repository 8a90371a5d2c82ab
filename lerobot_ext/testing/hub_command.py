# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext hub serve DIR`: a Hub on loopback for trying push and pull without the internet."""

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

from lerobot_ext.cli.command import Command, CommandError

_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")


def _configure(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="serve", required=True)
    serve = actions.add_parser("serve", help="serve a folder until Ctrl-C")
    serve.add_argument(
        "folder", metavar="DIR", type=Path, help="folder for the repositories; made when missing"
    )
    serve.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1 (any free one by default)")
    serve.add_argument(
        "--token",
        action="append",
        default=[],
        metavar="[USER:]TOKEN",
        help="accept only this token, that of `user` or of USER; may be repeated (default: any)",
    )
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; beyond 127.0.0.1 --token is needed, and nothing is encrypted",
    )
    serve.add_argument("--max-file-mb", type=float, metavar="MB", help="refuse larger files")


def _run(args: Namespace) -> int:
    """Serve until interrupted."""
    import shlex
    import threading

    from lerobot_ext.cli.look import console
    from lerobot_ext.testing.hub import HubBusyError, HubServer, client_environment

    folder: Path = args.folder.expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"{folder} is a file", "name a folder; it is made when missing")
    if not 0 <= args.port <= 65535:
        raise CommandError(
            f"--port {args.port} is not a TCP port", "choose one from 1024 to 65535, or leave it out"
        )
    if args.max_file_mb is not None and args.max_file_mb <= 0:
        raise CommandError(f"--max-file-mb {args.max_file_mb:g} lets nothing in", "give a number above 0")
    tokens = _users_by_token(args.token)
    try:
        server = HubServer(
            folder,
            port=args.port,
            tokens=tokens,
            host=args.host,
            max_file_bytes=None if args.max_file_mb is None else int(args.max_file_mb * 1e6),
        )
    except HubBusyError as error:
        raise CommandError(str(error), "use that one, or another folder") from error
    except ValueError as error:
        raise CommandError(str(error), "add --token=NAME:SECRET, or leave --host out") from error
    except OSError as error:
        raise CommandError(
            f"cannot serve {folder} on {args.host}:{args.port}: {error}",
            "choose another --port (0 takes any free one) or a folder you may write to",
        ) from error
    variables = client_environment(server.url, folder.parent / f"{folder.name}_client")
    if tokens is not None:
        variables["HF_TOKEN"] = next(iter(tokens))
    out = console()
    with server:
        if server.closed:
            out.print(
                "WARNING: other machines can reach this Hub, and nothing is encrypted: who can listen on the "
                "network reads tokens and files. Use it in a network you trust, or behind a TLS proxy.\n"
                f"Other machines put this one's name or address in place of {args.host} below.\n"
            )
        out.print(f"Hub of {folder} at {server.url}. In the shell that pushes or pulls:\n")
        for name, value in variables.items():
            out.print(f"export {name}={shlex.quote(value)}")
        if tokens is not None and len(tokens) > 1:
            names = ", ".join(f"{tokens[token]}'s" for token in list(tokens)[1:])
            out.print(f"\nHF_TOKEN above is {next(iter(tokens.values()))}'s; {names} stand in your command.")
        out.print("\nCtrl-C stops it; the folder stays.")
        threading.Event().wait()
    return 0


def _users_by_token(words: list[str]) -> dict[str, str] | None:
    """What `--token` says, `None` without it.

    Raises:
        CommandError: A token or a name is empty or not usable, or a token is given twice.
    """
    from lerobot_ext.testing.hub_http import USER

    found: dict[str, str] = {}
    for word in words:
        name, colon, token = word.rpartition(":")
        user = name if colon else USER
        if not token.isascii() or not token.isprintable() or not token.strip() or not _USER.fullmatch(user):
            raise CommandError(
                f"--token {word!r} is not USER:TOKEN", "both of letters, digits and `-`, `_`, `.`"
            )
        if token in found:
            raise CommandError("one --token is given twice", "each user needs a token of their own")
        found[token] = user
    return found or None


HUB = Command(
    name="hub",
    summary="A Hub on this machine, to try push and pull offline.",
    example="lerobot-ext hub serve ./hub --port=8765",
    configure=_configure,
    run=_run,
)
