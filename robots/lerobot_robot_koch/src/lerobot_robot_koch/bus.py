# SPDX-License-Identifier: Apache-2.0
"""LeRobot's Dynamixel bus with retries on every path, counted, and errors that say what to check.

Stock LeRobot tries each ping, read and write of a Koch once, so that one lost packet aborts an episode or a
connection. Three things are different here:

- every request goes through `_attempt`, which repeats it up to the configured number of retries and counts; a
  sync read then asks only the motors that have not answered yet;
- the port forgets what it received before each request: a status packet carries no request number, so an
  answer that came too late would else be taken for the next one's, and every later value would be one frame
  old;
- failures name port, ids, tries, elapsed time and what to check.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dynamixel_sdk as dxl
import serial
from lerobot.motors import Motor, MotorCalibration
from lerobot.motors.dynamixel import DynamixelMotorsBus

from lerobot_robot_koch.errors import CHECK
from lerobot_robot_koch.ports import describe_failure

try:
    from termios import error as _TermiosError
except ImportError:  # Windows

    class _TermiosError(Exception):  # type: ignore[no-redef]
        """Never raised where there is no termios."""


logger = logging.getLogger(__name__)


class FreshPortHandler(dxl.PortHandler):  # type: ignore[misc]
    """The SDK's port, except that `clearPort` also forgets what was received."""

    def clearPort(self) -> None:  # noqa: N802 - the SDK's name
        """Drop old input; the SDK calls this before it sends each request.

        Raises:
            ConnectionError: The port has gone, as when the cable was pulled.
        """
        try:
            self.ser.reset_input_buffer()
        except (OSError, _TermiosError) as error:
            raise ConnectionError(f"port {self.port_name!r} has gone: {error}. {CHECK}.") from error


# A line that only makes noise must not keep a read from ending.
_MAX_PACKETS_PER_ANSWER = 4


@dataclass
class BusCounts:
    """How the bus did since it was made.

    Attributes:
        n_reads (`int`): Reads and pings asked for.
        n_reads_retried (`int`): Those that needed more than one try.
        n_writes (`int`): Acknowledged writes asked for.
        n_writes_retried (`int`): Those that needed more than one try.
        n_failed (`int`): Requests given up.
    """

    n_reads: int = 0
    n_reads_retried: int = 0
    n_writes: int = 0
    n_writes_retried: int = 0
    n_failed: int = 0

    def __str__(self) -> str:
        text = (
            f"{self.n_reads_retried} of {self.n_reads} reads and {self.n_writes_retried} of "
            f"{self.n_writes} writes needed a retry"
        )
        return f"{text}, {self.n_failed} failed" if self.n_failed else text


class RobustDynamixelBus(DynamixelMotorsBus):
    """A `DynamixelMotorsBus` that survives lost packets.

    Args:
        port (`str`): Serial port.
        motors (`dict[str, Motor]`): Motors by name.
        calibration (`dict[str, MotorCalibration] | None`, *optional*): Calibration by motor name.
        num_read_retries (`int`, *optional*, defaults to `0`): Further tries after a failed read or ping.
        num_write_retries (`int`, *optional*, defaults to `0`): Further tries after a failed write.

    Attributes:
        counts (`BusCounts`): How many requests needed a retry.
    """

    def __init__(
        self,
        port: str,
        motors: dict[str, Motor],
        calibration: dict[str, MotorCalibration] | None = None,
        *,
        num_read_retries: int = 0,
        num_write_retries: int = 0,
    ) -> None:
        super().__init__(port, motors, calibration)
        self.num_read_retries = num_read_retries
        self.num_write_retries = num_write_retries
        self.counts = BusCounts()
        self.port_handler = FreshPortHandler(self.port)
        self.sync_reader = dxl.GroupSyncRead(self.port_handler, self.packet_handler, 0, 0)
        self.sync_writer = dxl.GroupSyncWrite(self.port_handler, self.packet_handler, 0, 0)

    @classmethod
    def replacing(
        cls, bus: DynamixelMotorsBus, *, num_read_retries: int, num_write_retries: int
    ) -> "RobustDynamixelBus":
        """A robust bus for the same port, motors and calibration as a stock one that is not connected yet."""
        return cls(
            bus.port,
            bus.motors,
            bus.calibration,
            num_read_retries=num_read_retries,
            num_write_retries=num_write_retries,
        )

    # --- connecting

    def _connect(self, handshake: bool = True) -> None:
        try:
            opened, cause = self.port_handler.openPort(), None
        except (OSError, serial.SerialException, _TermiosError) as error:
            opened, cause = False, error
        if not opened:
            raise ConnectionError(describe_failure(self.port, cause)) from None
        if not handshake:
            return
        try:
            self._handshake()
        except Exception:
            # An open port would make the destructor talk to an arm that does not answer.
            self.port_handler.closePort()
            raise

    def _assert_motors_exist(self) -> None:
        start = time.monotonic()
        found = {id_: self.ping(id_) for id_ in self.ids}
        expected = {motor.id: self.model_number_table[motor.model] for motor in self.motors.values()}
        missing = [id_ for id_ in self.ids if found[id_] is None]
        wrong = [id_ for id_ in self.ids if found[id_] is not None and found[id_] != expected[id_]]
        if not missing and not wrong:
            return
        elapsed_ms = (time.monotonic() - start) * 1000
        tries = self.num_read_retries + 1
        parts = [f"{self._describe(id_, expected[id_])} does not answer" for id_ in missing]
        parts += [
            f"{self._describe(id_, expected[id_])} answers as {self._model_name(found[id_])}" for id_ in wrong
        ]
        raise ConnectionError(
            f"Port {self.port!r} at {self.get_baudrate()} baud: {'; '.join(parts)} "
            f"({len(self.ids) - len(missing)} of {len(self.ids)} motors answer; {tries} tries each, "
            f"{elapsed_ms:.0f} ms). {self._advice(missing, wrong)}"
        )

    def _describe(self, id_: int, model_number: int) -> str:
        return f"id {id_} ({self._id_to_name(id_)}, {self._model_name(model_number)})"

    def _model_name(self, number: int | None) -> str:
        name = self._model_nb_to_model_dict.get(number, "unknown model")
        return f"{name} [{number}]"

    def _advice(self, missing: list[int], wrong: list[int]) -> str:
        if wrong:
            return (
                "Is this the port of the other arm (leader and follower swapped)? Else set the ids again "
                "with `lerobot-setup-motors`."
            )
        if len(missing) == len(self.ids):
            return f"{CHECK} ({self.get_baudrate()}; new motors have 57600: run `lerobot-setup-motors`)."
        first = self._id_to_name(missing[0])
        return f"{CHECK}; the first motor without an answer is {first}: start with its plug."

    def disconnect(self, disable_torque: bool = True) -> None:
        """Close the port as stock does, then say how the bus did."""
        super().disconnect(disable_torque)
        level = logging.WARNING if self.counts.n_failed else logging.INFO
        logger.log(level, "%s: %s.", self.port, self.counts)

    # --- requests: the public methods raise the number of retries, so that error messages count right

    def ping(self, motor: Any, num_retry: int = 0, raise_on_error: bool = False) -> int | None:
        """See `DynamixelMotorsBus.ping`; at least `num_read_retries` retries."""
        tries = 1 + max(num_retry, self.num_read_retries)
        self.counts.n_reads += 1
        for n_try in range(tries):
            last = n_try == tries - 1
            model: int | None = super().ping(motor, 0, raise_on_error and last)
            if model is not None:
                break
        else:
            self.counts.n_failed += 1
        self.counts.n_reads_retried += n_try > 0
        return model

    def broadcast_ping(self, num_retry: int = 0, raise_on_error: bool = False) -> dict[int, int] | None:
        """See `DynamixelMotorsBus.broadcast_ping`; at least `num_read_retries` retries."""
        found: dict[int, int] | None = super().broadcast_ping(
            max(num_retry, self.num_read_retries), raise_on_error
        )
        return found

    def read(self, data_name: str, motor: str, *, normalize: bool = True, num_retry: int = 0) -> Any:
        """See `DynamixelMotorsBus.read`; at least `num_read_retries` retries."""
        return super().read(
            data_name, motor, normalize=normalize, num_retry=max(num_retry, self.num_read_retries)
        )

    def write(
        self, data_name: str, motor: str, value: Any, *, normalize: bool = True, num_retry: int = 0
    ) -> None:
        """See `DynamixelMotorsBus.write`; at least `num_write_retries` retries."""
        super().write(
            data_name, motor, value, normalize=normalize, num_retry=max(num_retry, self.num_write_retries)
        )

    def sync_read(
        self, data_name: str, motors: Any = None, *, normalize: bool = True, num_retry: int = 0
    ) -> dict[str, Any]:
        """See `DynamixelMotorsBus.sync_read`; at least `num_read_retries` retries."""
        values: dict[str, Any] = super().sync_read(
            data_name, motors, normalize=normalize, num_retry=max(num_retry, self.num_read_retries)
        )
        return values

    def sync_write(self, data_name: str, values: Any, *, normalize: bool = True, num_retry: int = 0) -> None:
        """See `DynamixelMotorsBus.sync_write`; servos do not acknowledge it, so only sending is retried."""
        super().sync_write(
            data_name, values, normalize=normalize, num_retry=max(num_retry, self.num_write_retries)
        )

    # --- attempts: what the public methods, `disable_torque` and `setup_motor` end in

    def _read(
        self,
        address: int,
        length: int,
        motor_id: int,
        *,
        num_retry: int = 0,
        raise_on_error: bool = True,
        err_msg: str = "",
    ) -> tuple[int, int, int]:
        retries = max(num_retry, self.num_read_retries)
        self.counts.n_reads += 1
        result, n_tries = self._attempt(
            lambda: super(RobustDynamixelBus, self)._read(address, length, motor_id, raise_on_error=False),
            lambda result: result[1],
            retries,
            err_msg if raise_on_error else None,
        )
        self.counts.n_reads_retried += n_tries > 1
        value, comm, error = result
        self._raise_motor_error(comm, error, err_msg if raise_on_error else None)
        return value, comm, error

    def _write(
        self,
        addr: int,
        length: int,
        motor_id: int,
        value: int,
        *,
        num_retry: int = 0,
        raise_on_error: bool = True,
        err_msg: str = "",
    ) -> tuple[int, int]:
        retries = max(num_retry, self.num_write_retries)
        self.counts.n_writes += 1
        result, n_tries = self._attempt(
            lambda: super(RobustDynamixelBus, self)._write(
                addr, length, motor_id, value, raise_on_error=False
            ),
            lambda result: result[0],
            retries,
            err_msg if raise_on_error else None,
        )
        self.counts.n_writes_retried += n_tries > 1
        comm, error = result
        self._raise_motor_error(comm, error, err_msg if raise_on_error else None)
        return comm, error

    def _sync_read(
        self,
        addr: int,
        length: int,
        motor_ids: list[int],
        *,
        num_retry: int = 0,
        raise_on_error: bool = True,
        err_msg: str = "",
    ) -> tuple[dict[int, int], int]:
        self.counts.n_reads += 1
        values: dict[int, int] = {}

        def ask_missing() -> int:
            missing = [id_ for id_ in motor_ids if id_ not in values]
            return self._sync_read_once(addr, length, missing, values)

        comm, n_tries = self._attempt(
            ask_missing,
            lambda comm: comm,
            max(num_retry, self.num_read_retries),
            err_msg if raise_on_error else None,
        )
        self.counts.n_reads_retried += n_tries > 1
        return {id_: values.get(id_, 0) for id_ in motor_ids}, comm

    def _sync_read_once(self, addr: int, length: int, ids: list[int], values: dict[int, int]) -> int:
        """Ask `ids` once and put what they answer into `values`.

        The SDK's own group read gives up at the first motor that does not answer and throws away the answers
        behind it. Motors answer in the order in which they are asked, so once the last one has, there is
        nothing more to wait for.

        Returns:
            `int`: The SDK's communication result; success if all have answered.
        """
        self._setup_sync_reader(ids, addr, length)
        comm: int = self.sync_reader.txPacket()
        if not self._is_comm_success(comm):
            return comm
        failure: int = dxl.COMM_RX_TIMEOUT
        for _ in range(_MAX_PACKETS_PER_ANSWER * len(ids)):
            packet, comm = self.packet_handler.rxPacket(self.port_handler, False)
            if comm == dxl.COMM_RX_CORRUPT:
                failure = comm
                continue  # the answers behind a damaged one are still on their way
            if not self._is_comm_success(comm):
                break
            # FF FF FD 00 | id | length | 0x55 | error | data | CRC
            id_, data = packet[4], packet[9 : 9 + length]
            if id_ in ids and len(data) == length:
                values[id_] = int.from_bytes(bytes(data), "little")
            if id_ == ids[-1]:
                break
        return self._comm_success if all(id_ in values for id_ in ids) else failure

    def _attempt[R](
        self, request: Callable[[], R], comm_of: Callable[[R], int], retries: int, err_msg: str | None
    ) -> tuple[R, int]:
        """Make a request until it succeeds or `retries` further tries have failed.

        Args:
            request (`Callable`): One try.
            comm_of (`Callable`): The SDK's communication result in what `request` returns.
            retries (`int`): Tries after the first.
            err_msg (`str | None`): Beginning of the error; `None` returns the failed result instead of
                raising.

        Returns:
            `tuple`: The last result and the number of tries.

        Raises:
            ConnectionError: All tries failed.
        """
        start = time.monotonic()
        for n_tries in range(1, retries + 2):
            result = request()
            if self._is_comm_success(comm_of(result)):
                return result, n_tries
        self.counts.n_failed += 1
        if err_msg is not None:
            elapsed_ms = (time.monotonic() - start) * 1000
            raise ConnectionError(
                f"{err_msg} {self.packet_handler.getTxRxResult(comm_of(result))} Port {self.port!r}, "
                f"{elapsed_ms:.0f} ms. {CHECK}."
            )
        return result, n_tries

    def _raise_motor_error(self, comm: int, error: int, err_msg: str | None) -> None:
        """A motor that answers with an error would answer the same again: no retry."""
        if err_msg is not None and self._is_comm_success(comm) and self._is_error(error):
            raise RuntimeError(f"{err_msg} {self.packet_handler.getRxPacketError(error)}")
