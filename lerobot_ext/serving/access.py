# SPDX-License-Identifier: Apache-2.0
"""Who may speak to a server: addresses, the shared token, TLS; the same rules on both sides."""

import hmac
import ipaddress
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lerobot_ext.cli.command import CommandError

TOKEN_VARIABLE: Final = "LEROBOT_EXT_TOKEN"
MIN_TOKEN: Final = 16
_NEW_TOKEN: Final = "make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))' > token`"


@dataclass(frozen=True)
class Token:
    """A shared secret; its text shows up nowhere."""

    _secret: str

    def matches(self, given: str) -> bool:
        """Whether `given` is it, in a time that does not tell how much of it was right."""
        return hmac.compare_digest(self._secret.encode(), given.encode())

    @property
    def metadata(self) -> tuple[str, str]:
        """The gRPC header that carries it."""
        return ("authorization", f"Bearer {self._secret}")

    def __repr__(self) -> str:
        return "Token(…)"


def bearer(metadata: Mapping[str, str]) -> str:
    """The token in a call's metadata; empty when there is none."""
    scheme, _, secret = metadata.get("authorization", "").partition(" ")
    return secret if scheme == "Bearer" else ""


def read_token(path: Path | None, environment: Mapping[str, str] = os.environ) -> Token | None:
    """The token from a file, else from `LEROBOT_EXT_TOKEN`; None where there is neither.

    Raises:
        CommandError: The file cannot be read, others may read it, or the token is too short or not plain.
    """
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
            mode = path.stat().st_mode
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"`--token-file` {path} cannot be read: {error}", _NEW_TOKEN) from None
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise CommandError(
                f"`--token-file` {path} may be read by other users (mode {stat.S_IMODE(mode):03o})",
                f"`chmod 600 {path}`",
            )
        where = str(path)
    elif text := environment.get(TOKEN_VARIABLE, ""):
        where = TOKEN_VARIABLE
    else:
        return None
    secret = text.strip()
    if len(secret) < MIN_TOKEN or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise CommandError(
            f"the token in {where} has {len(secret)} characters; it needs {MIN_TOKEN} or more, plain ASCII "
            "in one line",
            _NEW_TOKEN,
        )
    return Token(secret)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. Names other than `localhost` count as the network."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(
    host: str, token: Token | None, *, tls: bool, insecure_network: bool, role: str = "server"
) -> None:
    """Refuse what would let strangers in, or show them the token.

    Args:
        host (`str`): Address the server listens at, or the client connects to.
        token (`Token`, *optional*): The shared secret.
        tls (`bool`): Whether the connection is encrypted.
        insecure_network (`bool`): The user said `--insecure-network`.
        role (`str`, *optional*): `server` or `client`, for the remedies.

    Raises:
        CommandError: Another address than loopback without a token, or without TLS and without that word.
    """
    if is_loopback(host):
        return
    if token is None:
        raise CommandError(
            f"{host} can be reached from the network, and no token is set: anybody there could "
            "drive the robot",
            f"give `--token-file FILE` (or {TOKEN_VARIABLE}) on both sides; {_NEW_TOKEN}",
        )
    if not tls and not insecure_network:
        certificate = "--tls-cert FILE --tls-key FILE" if role == "server" else "--tls-ca FILE"
        raise CommandError(
            f"{host} is on the network, and without TLS the token, pictures and actions travel in the clear: "
            "who listens can take the token and drive the robot",
            f"give `{certificate}`, or tunnel through ssh to 127.0.0.1, or say `--insecure-network` if "
            "nobody else is on that network",
        )


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; IPv6 addresses stand in brackets.

    Raises:
        CommandError: It has another form.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    valid = bool(colon and host and port.isdecimal()) and 0 < int(port) < 65536
    if not valid or (":" in host and not bracketed):
        raise CommandError(
            f"{address!r} is no address", "write HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080"
        )
    return host.strip("[]"), int(port)


def join_address(host: str, port: int) -> str:
    """`HOST:PORT`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
