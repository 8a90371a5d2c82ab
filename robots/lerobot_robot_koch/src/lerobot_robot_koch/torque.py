# SPDX-License-Identifier: Apache-2.0
"""Cutting the torque on the way out: it reaches every servo that can hear, and never raises."""

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lerobot_robot_koch.errors import BusLostError
from lerobot_robot_koch.wire import BROADCAST_ID, write_request

if TYPE_CHECKING:
    from lerobot_robot_koch.link import Link

logger = logging.getLogger(__name__)

TORQUE_ENABLE: Final = 64
_N_BROADCASTS: Final = 3
_PAUSE_S: Final = 0.002
_CONFIRM_S: Final = 0.3


def broadcast_torque_off(link: "Link") -> None:
    """Tell all servos at once to let go. Nobody acknowledges it, hence several times.

    Raises:
        BusLostError: The port has gone.
    """
    for _ in range(_N_BROADCASTS):
        link.send(write_request(BROADCAST_ID, TORQUE_ENABLE, b"\0"))
        time.sleep(_PAUSE_S)


def release(link: "Link", ids: Sequence[int]) -> list[int]:
    """Cut the torque of all servos and ask each whether it did.

    One servo that does not answer keeps no other one stiff: the broadcast comes first, then each servo by
    itself as often as time allows.

    Args:
        link (`Link`): The line.
        ids (`Sequence[int]`): The servos.

    Returns:
        `list[int]`: Ids that have not confirmed; all of them when the port has gone. Never raises.
    """
    unconfirmed = list(ids)
    end_s = time.monotonic() + _CONFIRM_S
    try:
        broadcast_torque_off(link)
        while unconfirmed and time.monotonic() < end_s:
            exchange = link.read(unconfirmed, TORQUE_ENABLE, 1)
            exchange.run_once(end_s)
            off = {id_ for id_, reply in exchange.replies.items() if reply.data[:1] == b"\0"}
            unconfirmed = [id_ for id_ in unconfirmed if id_ not in off]
            for id_ in unconfirmed:
                link.send(write_request(id_, TORQUE_ENABLE, b"\0"))
                time.sleep(_PAUSE_S)  # its acknowledgement passes; the next round asks for the state
    except BusLostError as error:
        logger.debug("while cutting the torque: %s", error)
    return unconfirmed
