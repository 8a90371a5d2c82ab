# SPDX-License-Identifier: Apache-2.0
"""What to install when gRPC is missing."""

from importlib.util import find_spec

from lerobot_ext.cli.command import CommandError
from lerobot_ext.installing import install_command


def require_grpc() -> None:
    """Make sure that gRPC is there.

    Raises:
        CommandError: It is not.
    """
    missing = [name for name in ("grpc", "google.protobuf") if not _is_there(name)]
    if missing:
        raise CommandError(
            f"async inference needs {' and '.join(missing)}, which is not installed",
            install_command("lerobot_ext[serving]"),
        )


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
