# SPDX-License-Identifier: Apache-2.0
"""One line for who asks a stock command line for a part of ours whose plugin is not installed.

LeRobot itself only says `invalid choice: 'hierarchical_diffusion'` and lists what there is. Plugins load
before the command line is read, so a look at it tells which package to install.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata

# Options of the stock command lines whose value names a part of ours, and the plugin that brings it.
PROVIDERS = {
    ("--policy.type", "hierarchical_diffusion"): "lerobot_policy_hierarchical_diffusion",
    ("--env.type", "koch"): "lerobot_env_koch",
}

logger = logging.getLogger(__name__)


def hint(argv: Sequence[str] | None = None) -> None:
    """Log which plugin to install for an option on the command line; nothing when all are there.

    A plugin that is installed and broken is not mentioned: the loader has reported it already.

    Args:
        argv (`Sequence[str]`, *optional*): The words of the command line; those of the process by default.
    """
    for option, value, distribution in _wanted(sys.argv[1:] if argv is None else argv):
        try:
            metadata.distribution(distribution)
        except metadata.PackageNotFoundError:
            logger.error(
                "lerobot_ext: %s=%s needs plugin %s, which is not installed. Remedy: `pip install %s`",
                option,
                value,
                distribution,
                distribution,
            )


def _wanted(words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Options that name a part of ours, written `--option=value` or `--option value`."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        option, equals, value = word.partition("=")
        value = value if equals else following
        distribution = PROVIDERS.get((option, value))
        if distribution is not None:
            yield option, value, distribution
