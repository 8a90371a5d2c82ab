# SPDX-License-Identifier: Apache-2.0
"""Environment variables that switch a part of ours off."""

import os


def switched_on(switch: str) -> bool:
    """Whether an environment variable says `on`, or nothing.

    Raises:
        ValueError: It says something else than `on` or `off`.
    """
    value = os.environ.get(switch, "on").strip().lower() or "on"
    if value not in ("on", "off"):
        raise ValueError(f"environment variable {switch} is {value!r}; set it to `on` or `off`, or unset it")
    return value == "on"
