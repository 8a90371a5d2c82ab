# SPDX-License-Identifier: Apache-2.0
"""The LeRobot versions whose dataset code our changes to it are tested against."""

import lerobot

TESTED_FROM, TESTED_BELOW = (0, 6, 1), (0, 7)


def inside_tested_window() -> bool:
    """Whether the installed LeRobot is one of them."""
    return TESTED_FROM <= lerobot_version() < TESTED_BELOW


def lerobot_version() -> tuple[int, ...]:
    """LeRobot's version as numbers, up to the first part that is none."""
    parts: list[int] = []
    for part in lerobot.__version__.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)
