# SPDX-License-Identifier: Apache-2.0
"""Defaults and check of the retry fields that follower and leader share."""

from typing import Final

NUM_READ_RETRIES: Final = 3
"""A lost answer costs about 35 ms (the SDK's timeout): three more tries take a tenth of a second."""

NUM_WRITE_RETRIES: Final = 5
"""Acknowledged writes happen while connecting and calibrating, where time matters less than success."""


def check_retries(**fields: int) -> None:
    """Refuse negative or fractional retry counts.

    Raises:
        ValueError: A value is not a whole number >= 0; the message names the field.
    """
    for name, value in fields.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(
                f"`{name}` ({value!r}) must be a whole number >= 0; 0 tries once, as stock LeRobot does."
            )
