# SPDX-License-Identifier: Apache-2.0
"""Recognises from the bus traffic where stock `lerobot-calibrate` stands, so that the hand can do its part.

Stock calibration of a Koch, as the servos see it:

1. torque off; `Operating_Mode` of all servos (leader: `Drive_Mode` too); the user is asked to hold the arm in
   the middle;
2. for each servo `Homing_Offset`, `Min_Position_Limit`, `Max_Position_Limit` to factory values, one read of
   `Present_Position`, then `Homing_Offset` of all servos in a row; the user is asked to sweep the joints;
3. many reads of `Present_Position`; then the three registers of each servo once more, and it is done.
"""

import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

_SETTLE_S: Final = 0.15
_DONE_LIMITS: Final = {"Min_Position_Limit": 0, "Max_Position_Limit": 4095}


class Phase(Enum):
    """What a person's hand would be doing."""

    FREE = "free"
    MIDDLE = "middle"
    SWEEP = "sweep"
    SWEPT = "swept"
    DONE = "done"


class CalibrationWatch:
    """Follows one arm's registers; written to by the bus thread, asked by the physics thread.

    Args:
        ids (`Sequence[int]`): Servo ids of the arm.
        clock (`Callable[[], float]`, *optional*): Time in seconds.
    """

    def __init__(self, ids: Sequence[int], clock: Callable[[], float] = time.monotonic) -> None:
        self._ids = frozenset(ids)
        self._clock = clock
        self._lock = threading.Lock()
        self._phase = Phase.FREE
        self._since_s = 0.0
        self._mode_written_s: float | None = None
        self._homed: set[int] = set()
        self._homed_last = 0

    def use_clock(self, clock: Callable[[], float]) -> None:
        """Measure time by another clock from now on: the physics', in which the hand moves."""
        with self._lock:
            self._clock = clock
            self._since_s = clock()

    def finish_sweep(self) -> None:
        """Take note that the hand has moved every joint from stop to stop."""
        with self._lock:
            if self._phase is Phase.SWEEP:
                self._enter(Phase.SWEPT)

    def on_write(self, id_: int, register: str, value: int, *, limp: bool) -> bool:
        """Take note of an accepted register write.

        Args:
            id_ (`int`): The servo.
            register (`str`): LeRobot's name of the register.
            value (`int`): What was written.
            limp (`bool`): Whether the whole arm is without torque.

        Returns:
            `bool`: Whether the arm must stand in the middle of its range from this moment on.
        """
        with self._lock:
            if not limp:
                self._enter(Phase.FREE)
                return False
            if register == "Operating_Mode":
                self._mode_written_s = self._clock()
            elif register == "Homing_Offset":
                return self._homing_written(id_)
            elif register in _DONE_LIMITS:
                self._homed.clear()
                if value != _DONE_LIMITS[register]:
                    self._enter(Phase.DONE)
            return False

    def update(self, *, limp: bool, is_open: bool) -> Phase:
        """The phase now.

        Args:
            limp (`bool`): Whether the whole arm is without torque.
            is_open (`bool`): Whether a client has the port open.
        """
        with self._lock:
            if not limp or not is_open:
                self._enter(Phase.FREE)
                self._mode_written_s = None
            elif (
                self._phase is Phase.FREE
                and self._mode_written_s is not None
                and self._clock() - self._mode_written_s > _SETTLE_S
            ):
                # `configure` writes modes too, but switches torque on right afterwards.
                self._enter(Phase.MIDDLE)
            return self._phase

    @property
    def phase(self) -> Phase:
        """The phase at the last update."""
        return self._phase

    @property
    def elapsed_s(self) -> float:
        """Seconds since this phase began."""
        return self._clock() - self._since_s

    def _homing_written(self, id_: int) -> bool:
        if self._phase is Phase.DONE:
            return False
        if self._phase in (Phase.SWEEP, Phase.SWEPT):
            if id_ == self._homed_last:
                return False  # once more, because its acknowledgement was lost
            # The ranges are known: the final values are being written.
            self._enter(Phase.DONE)
            return False
        self._enter(Phase.MIDDLE)
        self._homed.add(id_)
        self._homed_last = id_
        if self._homed == self._ids:
            self._enter(Phase.SWEEP)
        return True

    def _enter(self, phase: Phase) -> None:
        if phase is self._phase:
            return
        self._phase = phase
        self._since_s = self._clock()
        if phase is not Phase.MIDDLE:
            self._homed.clear()
