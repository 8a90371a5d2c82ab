# SPDX-License-Identifier: Apache-2.0
"""Tells on the command line why an option is refused: field, value and what to do about it.

Configurations of LeRobot and of plugins check their fields and say so in a `ValueError`. Draccus, which reads
the options, keeps it as a cause and prints only that the class could not be made. Here the cause's text
follows, for LeRobot's own policies as for every plugin's. An option or a choice that does not exist ends in
hundreds of lines of usage; behind them stands here the nearest that does.
"""

import logging
import sys
from typing import Any

from lerobot_ext import last_words
from lerobot_ext.near_options import corrections
from lerobot_ext.patches import Patch
from lerobot_ext.switches import switched_on

SWITCH = "LEROBOT_EXT_OPTION_ERRORS"
_MODULE = "draccus.parsers.decoding"
_MISTYPED = 2
"""argparse's exit status for a line that it cannot read."""

_patch = Patch("reading of options", lost="a value that a policy refuses is not named")
logger = logging.getLogger(__name__)


def explain_where_options_are_read() -> None:
    """Have refused values explained, if this process reads options with draccus.

    Environment variable `LEROBOT_EXT_OPTION_ERRORS=off` leaves its errors as they are.

    Raises:
        ValueError: The switch is neither `on` nor `off`; the plugin loader turns that into one line.
    """
    if switched_on(SWITCH) and _MODULE in sys.modules:
        install()


def install() -> bool:
    """Let draccus say why a class cannot be made, or which option is near; whether it does now."""
    from draccus.argparsing import ArgumentParser
    from draccus.parsers import decoding

    installed = _patch.install(
        {
            (decoding, "decode_dataclass"): _decode_dataclass,
            (ArgumentParser, "parse_known_args"): _parse_known_args,
        }
    )
    _forget_decoders()
    return installed


def uninstall() -> bool:
    """Put draccus' own back; whether ours was in place."""
    was_installed = _patch.installed
    _patch.uninstall()
    _forget_decoders()
    return was_installed


def _forget_decoders() -> None:
    """Draccus keeps the decoder of each class that it has met, and ours would stay or be left out there."""
    from draccus.parsers import decoding

    decoding.get_decoding_fn.cache_clear()


def _decode_dataclass(cls: Any, d: Any, path: Any = ()) -> Any:
    from draccus.utils import DecodingError, ParsingError

    try:
        return _patch.stock("decode_dataclass")(cls, d, path)
    except DecodingError:
        raise
    except ParsingError as error:
        if error.__cause__ is None:
            raise
        raise DecodingError(tuple(path), f"{str(error).rstrip('.')}: {error.__cause__}") from error.__cause__


def _parse_known_args(self: Any, args: Any = None, namespace: Any = None, **named: Any) -> Any:
    words = [*(sys.argv[1:] if args is None else args)]
    try:
        return _patch.stock("parse_known_args")(self, args, namespace, **named)
    except SystemExit as stop:
        # A configuration may read options of its own while this one reads: the inner one has told.
        if stop.code == _MISTYPED and not getattr(stop, "explained", False):
            stop.explained = True  # type: ignore[attr-defined]
            for sentence in corrections(self.parser, words):
                if not last_words.told_of(sentence.split()[0]):  # such as that its package is missing
                    listed = f"`{self.parser.prog} --help` lists what there is"
                    logger.error("lerobot_ext: %s. Remedy: correct it; %s", sentence, listed)
            last_words.repeat(logger)
        raise
