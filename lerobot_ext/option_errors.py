# SPDX-License-Identifier: Apache-2.0
"""Tells on the command line why a configuration refuses an option: field, value and what to do about it.

Configurations of LeRobot and of plugins check their fields and say so in a `ValueError`. Draccus, which reads
the options, keeps it as a cause and prints only that the class could not be made. Here the cause's text
follows, for LeRobot's own policies as for every plugin's.
"""

import sys
from typing import Any

from lerobot_ext.patches import Patch
from lerobot_ext.switches import switched_on

SWITCH = "LEROBOT_EXT_OPTION_ERRORS"
_MODULE = "draccus.parsers.decoding"

_patch = Patch("reading of options", lost="a value that a policy refuses is not named")


def explain_where_options_are_read() -> None:
    """Have refused values explained, if this process reads options with draccus.

    Environment variable `LEROBOT_EXT_OPTION_ERRORS=off` leaves its errors as they are.

    Raises:
        ValueError: The switch is neither `on` nor `off`; the plugin loader turns that into one line.
    """
    if switched_on(SWITCH) and _MODULE in sys.modules:
        install()


def install() -> bool:
    """Let draccus say why a class cannot be made; whether it does now."""
    from draccus.parsers import decoding

    installed = _patch.install({(decoding, "decode_dataclass"): _decode_dataclass})
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
