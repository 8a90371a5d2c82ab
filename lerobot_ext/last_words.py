# SPDX-License-Identifier: Apache-2.0
"""What was said of a command line before the command began, said again behind the error it ends in.

LeRobot answers a mistyped line with hundreds of lines of options, or of a network's traceback. A hint above
them is not seen; the last line is.
"""

import logging

_said: list[str] = []


def say(logger: logging.Logger, level: int, message: str, *words: object) -> None:
    """Log a message now, and once more by `repeat`.

    Args:
        logger (`logging.Logger`): Whose message it is.
        level (`int`): `logging.WARNING` or above.
        message (`str`): With places for `words`, as `logging` fills them.
        *words (`object`): What stands there.
    """
    logger.log(level, message, *words)
    _said.append(message % words if words else message)


def told_of(words: str) -> bool:
    """Whether a message that waits to be repeated has these words in it."""
    return any(words in message for message in _said)


def repeat(logger: logging.Logger) -> None:
    """Log as errors what was said so far; after that it is forgotten."""
    while _said:
        logger.error("%s", _said.pop(0))
