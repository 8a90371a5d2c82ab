# SPDX-License-Identifier: Apache-2.0
"""LeRobot's Dynamixel bus, made to survive a bad line.

Stock LeRobot tries each ping, read and write of a Koch once, so that one lost packet aborts an episode or a
connection. Here:

- configuration (pings, reads, acknowledged writes) is repeated until it succeeds or both the number of
  retries and three times `give_up_ms` are used up;
- in the control loop (`tolerating_loss`) a read of the joints has a time budget, asks again only those that
  have not answered, then uses their last values while these are young enough, and gives up only after
  `give_up_ms` of active trying (`loop_read`, `freshness`);
- errors that a motor *reports* (overload, voltage, a refused value) are told apart from lost packets;
- torque-off on the way out reaches every servo and never raises (`torque`);
- failures name port, motors, tries, elapsed time and what to check.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import dynamixel_sdk as dxl
import serial
from lerobot.motors import Motor, MotorCalibration
from lerobot.motors.dynamixel import DynamixelMotorsBus
from lerobot.utils.decorators import check_if_not_connected

from lerobot_ext.recording.spent import SPENT
from lerobot_robot_koch.alerts import ALERT_BIT, code_of, describe_code, describe_hardware
from lerobot_robot_koch.config_bus import BusFields
from lerobot_robot_koch.counts import BusCounts
from lerobot_robot_koch.errors import CHECK, BusLostError, MotorAlertError
from lerobot_robot_koch.link import PING_DATA, Exchange, Link, Port
from lerobot_robot_koch.loop_read import LoopReader, MotorsLostError
from lerobot_robot_koch.losses import note_loss
from lerobot_robot_koch.ports import describe_failure, latency_advice
from lerobot_robot_koch.stale_values import JOURNAL, StaleValue
from lerobot_robot_koch.torque import TORQUE_ENABLE, broadcast_torque_off, release
from lerobot_robot_koch.wire import Instruction, Reply, sync_write_request

logger = logging.getLogger(__name__)

_PAUSES_S: Final = (0.0, 0.002, 0.005, 0.01)
"""Between tries of a configuration request, so that they outlast a burst of losses; the last one repeats."""
_CONFIGURING: Final = 3
"""How many times `give_up_ms` a configuration request may take: a user waits for it, no frame does."""
_PATIENT_EVERY: Final = 4
"""Every so many tries of a configuration request, wait as long as the SDK does."""
_FAST_PROBES: Final = 6
_EEPROM_END: Final = 64
_UNCHECKED_REGISTERS: Final = (7, 8)
"""After its id or baud rate was written, a motor cannot be asked for it the same way."""
_HARDWARE_ERROR_STATUS: Final = 70
_SLOW_S: Final = 0.008
_TIMER_ADVICE: Final = (
    "Set the latency timer of the USB adapter to 1 ms (Windows: Device Manager, port settings, Advanced)."
)


class RobustDynamixelBus(DynamixelMotorsBus):
    """A `DynamixelMotorsBus` that survives lost, damaged and late packets.

    Args:
        port (`str`): Serial port.
        motors (`dict[str, Motor]`): Motors by name.
        calibration (`dict[str, MotorCalibration] | None`, *optional*): Calibration by motor name.
        fields (`BusFields`, *optional*): Retries, budgets and the use of Fast Sync Read.
        device (`str`, *optional*, defaults to `"bus"`): Whose bus it is, for messages and the record of
            stale values.

    Attributes:
        counts (`BusCounts`): What the bus went through.
        link (`Link`): The line, with its own counts and the round-trip estimate.
        keep_torque (`bool`): Leave the torque on at `disconnect`, whatever its argument says.
    """

    def __init__(
        self,
        port: str,
        motors: dict[str, Motor],
        calibration: dict[str, MotorCalibration] | None = None,
        *,
        fields: BusFields | None = None,
        device: str = "bus",
    ) -> None:
        super().__init__(port, motors, calibration)
        self.fields = fields or BusFields()
        self.device = device
        self.counts = BusCounts()
        self.keep_torque = False
        self.port_handler = Port(self.port)
        # The SDK's own group requests, should anyone use them, go through the same port.
        self.sync_reader = dxl.GroupSyncRead(self.port_handler, self.packet_handler, 0, 0)
        self.sync_writer = dxl.GroupSyncWrite(self.port_handler, self.packet_handler, 0, 0)
        self.link = Link(self.port_handler)
        self._loop = LoopReader(self.link, self.fields, self._check_replies)
        self._tolerating = False
        self._alerted: set[int] = set()

    @classmethod
    def replacing(cls, bus: DynamixelMotorsBus, fields: BusFields, device: str) -> "RobustDynamixelBus":
        """A robust bus for the same port, motors and calibration as a stock one that is not connected yet."""
        return cls(bus.port, bus.motors, bus.calibration, fields=fields, device=device)

    @property
    def uses_fast_sync_read(self) -> bool:
        """Whether the joints are read by Fast Sync Read in the control loop."""
        return self._loop.uses_fast_sync_read

    @contextmanager
    def tolerating_loss(self) -> Iterator[None]:
        """Let reads of joint values use the last known ones: for the control loop, not for calibration."""
        self._tolerating = True
        try:
            yield
        finally:
            self._tolerating = False

    # --- connecting

    def _connect(self, handshake: bool = True) -> None:
        cause: BaseException | None = None
        try:
            opened = self.port_handler.openPort()
        except (OSError, serial.SerialException, ValueError) as error:
            opened, cause = False, error
        if not opened:
            raise ConnectionError(describe_failure(self.port, cause)) from None
        self.port_handler.ask_for_low_latency()
        self.link = Link(self.port_handler)
        self._loop = LoopReader(self.link, self.fields, self._check_replies)
        self._alerted.clear()
        if not handshake:
            return
        try:
            self._handshake()
            self.link.learn_tagging(self.ids)
            self._loop.uses_fast_sync_read = self.fields.fast_sync_read and self._understands_fast_sync_read()
        except BaseException:
            # An open port would make the destructor talk to an arm that does not answer.
            self.port_handler.closePort()
            raise
        self._warn_of_slow_adapter()

    def _assert_motors_exist(self) -> None:
        start_s = time.monotonic()
        expected = {motor.id: self.model_number_table[motor.model] for motor in self.motors.values()}
        found: dict[int, int] = {}
        n_rounds = 0
        # In rounds over all motors: the time to outlast a fault passes once, not once for each motor.
        for n_rounds, patient in self._rounds(self.fields.num_read_retries):  # noqa: B007 - read below
            for id_ in [id_ for id_ in self.ids if id_ not in found]:
                model = self._ping_once(id_, patient)
                if model is not None:
                    found[id_] = model
            if len(found) == len(self.ids):
                break
        self.counts.n_reads += len(self.ids)
        self.counts.n_reads_retried += n_rounds > 1
        missing = [id_ for id_ in self.ids if id_ not in found]
        wrong = [id_ for id_ in found if found[id_] != expected[id_]]
        if not missing and not wrong:
            return
        self.counts.n_failed += 1
        elapsed_ms = (time.monotonic() - start_s) * 1000
        parts = [f"{self._describe(id_)} does not answer" for id_ in missing]
        parts += [f"{self._describe(id_)} answers as {self._model_name(found[id_])}" for id_ in wrong]
        raise ConnectionError(
            f"Port {self.port!r} at {self.get_baudrate()} baud: {'; '.join(parts)} "
            f"({len(found)} of {len(self.ids)} motors answer; {n_rounds} tries each, {elapsed_ms:.0f} ms). "
            f"{self._connection_advice(missing, wrong)}"
        )

    def _connection_advice(self, missing: list[int], wrong: list[int]) -> str:
        if wrong:
            return (
                "Is this the port of the other arm (leader and follower swapped)? Else set the ids again "
                "with `lerobot-setup-motors`."
            )
        if len(missing) == len(self.ids):
            return f"{CHECK} ({self.get_baudrate()}; new motors have 57600: run `lerobot-setup-motors`)."
        first = self._id_to_name(missing[0])
        return f"{CHECK}; the first motor without an answer is {first}: start with its plug."

    def _understands_fast_sync_read(self) -> bool:
        """Whether every motor takes part in a Fast Sync Read (X series: from firmware 45 on).

        Asked, not looked up: a few reads of the model number, until each motor has been heard once. A servo
        that does not know the instruction is silent, and so are those behind it.
        """
        heard: set[int] = set()
        for _ in range(_FAST_PROBES):
            exchange = self.link.read(self.ids, 0, 2, fast=True)
            exchange.run_once(time.monotonic() + 0.1)
            heard |= set(exchange.replies)
            if len(heard) == len(self.ids):
                return True
        logger.info("%s: no Fast Sync Read (ids heard: %s).", self.port, sorted(heard) or "none")
        return False

    def _warn_of_slow_adapter(self) -> None:
        mean_s = self.link.round_trip.mean(1)
        if mean_s is not None and mean_s > _SLOW_S:
            logger.warning(
                "%s: an answer takes %.0f ms, too long for 30 frames a second. %s",
                self.port,
                mean_s * 1000,
                latency_advice(self.port, _TIMER_ADVICE),
            )

    # --- leaving

    @check_if_not_connected
    def disconnect(self, disable_torque: bool = True) -> None:
        """Cut the torque if asked to, close the port, and say how the bus did. Never raises once connected.

        Args:
            disable_torque (`bool`, *optional*, defaults to `True`): Cut the torque of every motor first,
                unless `keep_torque` is set.
        """
        if disable_torque and not self.keep_torque:
            self._say_unconfirmed(release(self.link, self.ids))
        try:
            self.port_handler.closePort()
        except (OSError, serial.SerialException, TypeError) as error:
            logger.debug("%s: while closing: %s", self.port, error)
            self.port_handler.is_open = False
        level = logging.WARNING if self.counts.n_failed else logging.INFO
        logger.log(level, "%s: %s.", self.port, self.counts)

    def _say_unconfirmed(self, ids: list[int]) -> None:
        if not ids:
            return
        logger.error(
            "%s: TORQUE STATE UNKNOWN of %s: no confirmation. Support the arm, then cut its power; or, when "
            "the bus answers again, run `lerobot-ext relax --port %s`.",
            self.port,
            ", ".join(self._describe(id_) for id_ in ids),
            self.port,
        )

    def disable_torque(self, motors: int | str | list[str] | None = None, num_retry: int = 0) -> None:
        """See `DynamixelMotorsBus.disable_torque`; all motors are told at once before each is asked.

        Raises:
            BusLostError: A motor did not confirm.
        """
        if motors is None:
            broadcast_torque_off(self.link)
        super().disable_torque(motors, num_retry)

    # --- requests: the public methods raise the number of retries, so that error messages count right

    def ping(self, motor: Any, num_retry: int = 0, raise_on_error: bool = False) -> int | None:
        """See `DynamixelMotorsBus.ping`; at least `num_read_retries` retries."""
        id_ = self._get_motor_id(motor)
        self.counts.n_reads += 1
        start_s, n_tries, model = time.monotonic(), 0, None
        for n_tries, patient in self._rounds(max(num_retry, self.fields.num_read_retries)):  # noqa: B007 - read below
            model = self._ping_once(id_, patient)
            if model is not None:
                break
        self.counts.n_reads_retried += n_tries > 1
        if model is None and raise_on_error:
            raise self._lost(f"Ping of id {id_} failed.", [id_], n_tries, start_s)
        return model

    def _ping_once(self, id_: int, patient: bool) -> int | None:
        """Model number of one motor; one that reports an error is there all the same."""
        exchange = self.link.ask(id_, Instruction.PING, b"", PING_DATA)
        exchange.run_once(float("inf"), patient=patient)
        reply = exchange.replies.get(id_)
        return int.from_bytes(reply.data[:2], "little") if reply and reply.data else None

    def broadcast_ping(self, num_retry: int = 0, raise_on_error: bool = False) -> dict[int, int] | None:
        """See `DynamixelMotorsBus.broadcast_ping`; at least `num_read_retries` retries."""
        found: dict[int, int] | None = super().broadcast_ping(
            max(num_retry, self.fields.num_read_retries), raise_on_error
        )
        return found

    def read(self, data_name: str, motor: str, *, normalize: bool = True, num_retry: int = 0) -> Any:
        """See `DynamixelMotorsBus.read`; at least `num_read_retries` retries."""
        retries = max(num_retry, self.fields.num_read_retries)
        return super().read(data_name, motor, normalize=normalize, num_retry=retries)

    def write(
        self, data_name: str, motor: str, value: Any, *, normalize: bool = True, num_retry: int = 0
    ) -> None:
        """See `DynamixelMotorsBus.write`; at least `num_write_retries` retries."""
        retries = max(num_retry, self.fields.num_write_retries)
        super().write(data_name, motor, value, normalize=normalize, num_retry=retries)

    def sync_read(
        self, data_name: str, motors: Any = None, *, normalize: bool = True, num_retry: int = 0
    ) -> dict[str, Any]:
        """See `DynamixelMotorsBus.sync_read`; within `tolerating_loss`, a missing value may be an old one."""
        retries = max(num_retry, self.fields.num_read_retries)
        with SPENT.on("bus"):
            values: dict[str, Any] = super().sync_read(
                data_name, motors, normalize=normalize, num_retry=retries
            )
        return values

    # --- what the public methods, `disable_torque` and `setup_motor` end in

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
        exchange = self._read_all(address, length, [motor_id], num_retry, err_msg if raise_on_error else None)
        reply = exchange.replies.get(motor_id)
        if reply is None:
            return 0, dxl.COMM_RX_TIMEOUT, 0
        return int.from_bytes(reply.data[:length], "little"), self._comm_success, code_of(reply.error)

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
        if self._tolerating:
            return self._read_in_loop(addr, length, motor_ids, err_msg), self._comm_success
        exchange = self._read_all(addr, length, motor_ids, num_retry, err_msg if raise_on_error else None)
        values = dict.fromkeys(motor_ids, 0)
        values |= {i: int.from_bytes(r.data[:length], "little") for i, r in exchange.replies.items()}
        return values, dxl.COMM_RX_TIMEOUT if exchange.missing else self._comm_success

    def _read_all(
        self, address: int, length: int, ids: list[int], retries: int, err_msg: str | None
    ) -> Exchange:
        """Read until all have answered or patience is over (`_rounds`); raises only with an `err_msg`.

        Raises:
            BusLostError: Not all have answered.
            MotorAlertError: A motor refuses the request.
        """
        self.counts.n_reads += 1
        exchange = self.link.read(ids, address, length)
        for _, patient in self._rounds(max(retries, self.fields.num_read_retries)):
            if exchange.run_once(float("inf"), patient=patient):
                break
        self.counts.n_reads_retried += exchange.n_tries > 1
        if err_msg is not None:
            if exchange.missing:
                raise self._lost(err_msg, exchange.missing, exchange.n_tries, exchange.started_s)
            self._check_replies(exchange, err_msg)
        return exchange

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
        self.counts.n_writes += 1
        if addr < _EEPROM_END:
            self._loop.forget()  # homing, direction, mode: what a position means may change
        data = bytes(self._serialize_data(value, length))
        start_s, n_tries = time.monotonic(), 0
        reply: Reply | None = None
        for n_tries, patient in self._rounds(max(num_retry, self.fields.num_write_retries)):  # noqa: B007 - read below
            reply = self._write_once(motor_id, addr, data, patient)
            if reply is not None:
                break
        self.counts.n_writes_retried += n_tries > 1
        if reply is None:
            if raise_on_error:
                raise self._lost(err_msg, [motor_id], n_tries, start_s)
            return dxl.COMM_RX_TIMEOUT, 0
        letting_go = addr == TORQUE_ENABLE and value == 0
        if raise_on_error and (code_of(reply.error) or not letting_go):
            self._raise_alert(reply, err_msg)
        return self._comm_success, code_of(reply.error)

    def _write_once(self, id_: int, address: int, data: bytes, patient: bool) -> Reply | None:
        """Write and take the acknowledgement; `None` when there is none that can be trusted."""
        doubtful = self.link.may_hear_late_replies() and address not in _UNCHECKED_REGISTERS
        exchange = self.link.ask(id_, Instruction.WRITE, address.to_bytes(2, "little") + data, 0)
        exchange.run_once(float("inf"), patient=patient)
        reply = exchange.replies.get(id_)
        if reply is None or code_of(reply.error) or not doubtful:
            return reply
        # It may be that of an earlier write: the register tells.
        return reply if self._holds(id_, address, data) else None

    def _holds(self, id_: int, address: int, data: bytes) -> bool:
        """Whether a register holds `data`; no answer counts as no."""
        exchange = self.link.read([id_], address, len(data))
        exchange.run_once(float("inf"))
        reply = exchange.replies.get(id_)
        return reply is not None and reply.data[: len(data)] == data

    def _sync_write(
        self,
        addr: int,
        length: int,
        ids_values: dict[int, int],
        num_retry: int = 0,
        raise_on_error: bool = True,
        err_msg: str = "",
    ) -> int:
        """Send targets; servos do not acknowledge them, and the next frame makes a lost one good."""
        values = {id_: bytes(self._serialize_data(value, length)) for id_, value in ids_values.items()}
        self.link.send(sync_write_request(addr, values))
        return int(self._comm_success)

    # --- the control loop

    def _read_in_loop(self, address: int, length: int, ids: list[int], err_msg: str) -> dict[int, int]:
        """See `LoopReader.read`; counts, and notes old values.

        Raises:
            BusLostError: Motors do not answer.
            MotorAlertError: A motor refuses the request.
        """
        self.counts.n_reads += 1
        try:
            found = self._loop.read(ids, address, length)
        except MotorsLostError as lost:
            raise self._lost(err_msg, lost.ids, lost.n_tries, lost.since_s) from None
        self.counts.n_reads_retried += found.n_tries > 1
        for id_, age_s in found.ages_s.items():
            self._note_stale(id_, age_s * 1000)
        return found.values

    def _note_alert(self, id_: int) -> None:
        """Say once that a motor reports a hardware error; its positions are still good."""
        if id_ in self._alerted:
            return
        self._alerted.add(id_)
        self.counts.n_alerts += 1
        logger.error(
            "%s: %s reports %s.", self.port, self._describe(id_), describe_hardware(self._hardware(id_))
        )

    def _note_stale(self, id_: int, age_ms: float) -> None:
        self.counts.n_stale += 1
        self.counts.max_stale_ms = max(self.counts.max_stale_ms, age_ms)
        JOURNAL.add(StaleValue(self.device, self._id_to_name(id_), round(age_ms, 1)))
        logger.debug("%s: %s did not answer; its value is %.0f ms old", self.port, id_, age_ms)

    # --- patience, errors, names

    def _rounds(self, retries: int) -> Iterator[tuple[int, bool]]:
        """Numbers of the tries, and whether each is to be patient.

        They are `retries` + 1 at least and go on for a while: no frame waits.
        """
        end_s = time.monotonic() + _CONFIGURING * self.fields.give_up_ms / 1000
        n_try = 0
        while n_try <= retries or time.monotonic() < end_s:
            if n_try:
                time.sleep(_PAUSES_S[min(n_try, len(_PAUSES_S)) - 1])
            n_try += 1
            yield n_try, n_try % _PATIENT_EVERY == 0

    def _lost(self, err_msg: str, ids: Sequence[int], n_tries: int, start_s: float) -> BusLostError:
        """The error for motors that do not answer."""
        self.counts.n_failed += 1
        note_loss()
        elapsed_ms = (time.monotonic() - start_s) * 1000
        who = ", ".join(self._describe(id_) for id_ in ids)
        return BusLostError(
            f"{_request_of(err_msg)}: no answer from {who} on port {self.port!r} ({n_tries} tries in the "
            f"last request, {elapsed_ms:.0f} ms). {CHECK}. {latency_advice(self.port)}".rstrip()
        )

    def _check_replies(self, exchange: Exchange, err_msg: str = "A read of the joints") -> None:
        """Tell refusals and hardware errors apart: with the latter, what was read is still good.

        Raises:
            MotorAlertError: A motor refuses the request.
        """
        for id_, reply in exchange.replies.items():
            if code_of(reply.error):
                self._raise_alert(reply, err_msg)
            if reply.error & ALERT_BIT:
                self._note_alert(id_)
            else:
                self._alerted.discard(id_)

    def _raise_alert(self, reply: Reply, err_msg: str) -> None:
        """Raise if a motor reports an error; asking again would not change it."""
        if code_of(reply.error):
            what = describe_code(reply.error)
        elif reply.error & ALERT_BIT:
            what = describe_hardware(self._hardware(reply.id))
        else:
            return
        who = self._describe(reply.id)
        raise MotorAlertError(f"{_request_of(err_msg)}: {who} on port {self.port!r} reports {what}.")

    def _hardware(self, id_: int) -> int | None:
        exchange = self.link.read([id_], _HARDWARE_ERROR_STATUS, 1)
        exchange.run_once(float("inf"))
        reply = exchange.replies.get(id_)
        return reply.data[0] if reply and reply.data else None

    def _describe(self, id_: int) -> str:
        if id_ not in self._id_to_model_dict:
            return f"id {id_}"  # a new motor, while ids are set
        model = self._model_name(self.model_number_table[self._id_to_model(id_)])
        return f"id {id_} ({self._id_to_name(id_)}, {model})"

    def _model_name(self, number: int | None) -> str:
        return f"{self._model_nb_to_model_dict.get(number, 'unknown model')} [{number}]"


def _request_of(err_msg: str) -> str:
    """Stock's beginning of an error message, without its number of tries: ours says the real one."""
    return err_msg.partition(" after ")[0] or "A request failed"
