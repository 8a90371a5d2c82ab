# SPDX-License-Identifier: Apache-2.0
"""Entry point of `lerobot-ext`."""


def main() -> int:
    """Dispatch `lerobot-ext COMMAND …`."""
    raise SystemExit("lerobot-ext: no command is built yet")
