# SPDX-License-Identifier: Apache-2.0
"""The LeRobot versions that our changes to it are tested against."""

import logging

TESTED_FROM, TESTED_BELOW = (0, 6, 1), (0, 7)


def inside_tested_window() -> bool:
    """Whether the installed LeRobot is one of them."""
    return TESTED_FROM <= lerobot_version() < TESTED_BELOW


def is_known(part: str, lost: str, logger: logging.Logger) -> bool:
    """Whether a part of LeRobot may be changed: it is inside the window. If not, one line says what is lost.

    Args:
        part (`str`): What would be changed: `training loop`.
        lost (`str`): What the user has to do without: `no metrics.csv`.
        logger (`Logger`): Of whoever asks.
    """
    if inside_tested_window():
        return True
    version = ".".join(map(str, lerobot_version()))
    logger.warning(
        "lerobot_ext: LeRobot %s is not one whose %s we know; %s. Install lerobot>=0.6.1,<0.7.",
        version,
        part,
        lost,
    )
    return False


def lerobot_version() -> tuple[int, ...]:
    """LeRobot's version as numbers, up to the first part that is none."""
    import lerobot  # late: what changes LeRobot is imported by commands that do without it, too

    parts: list[int] = []
    for part in lerobot.__version__.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)
