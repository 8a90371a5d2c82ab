# SPDX-License-Identifier: Apache-2.0
"""What holds for everything that is connected and disconnected: robots, teleoperators, cameras.

Rules about connecting run where `has_device` finds something to connect to, else they are skipped.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, cast

from lerobot_ext.plugins import describe_error
from lerobot_ext.testing.contract import broken, rule, skip
from lerobot_ext.testing.contracts.configured import ConfiguredContract
from lerobot_ext.testing.contracts.touch import touches

_THREADS_MAY_TAKE_S = 3.0


class DeviceContract(ConfiguredContract):
    """Rules about building, connecting and disconnecting."""

    _no_device: ClassVar[str | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._no_device = None

    # What an author may override

    def has_device(self) -> bool:
        """Whether `make_config` leads to a device that can be connected to.

        By default it is tried once. Where there must be one, return `True`: then a failure to connect breaks
        `connects` instead of being a reason to skip.
        """
        cls = type(self)
        if cls._no_device is None:
            device = self.make_device()
            try:
                self.connect(device)
                cls._no_device = ""
            except (OSError, RuntimeError) as error:  # what LeRobot's own devices raise
                cls._no_device = describe_error(error)
            finally:
                self._put_away(device)
        return not cls._no_device

    def make_device(self) -> Any:
        """The device, as LeRobot's factory builds it from `make_config`."""
        return self.build(self.make_config())

    def connect(self, device: Any) -> None:
        """Connect `device` without asking anybody anything."""
        device.connect()

    def build_once(self) -> object:
        """See `ConfiguredContract.build_once`."""
        return self.build(self.make_config())

    # What the kinds of devices fill in

    def build(self, config: Any) -> Any:
        """What LeRobot's factory builds from `config`."""
        raise NotImplementedError

    def uses(self, device: Any) -> Mapping[str, Callable[[], object]]:
        """Calls that need a connection, by the name of the method."""
        raise NotImplementedError

    # Helpers of rules

    @classmethod
    def for_choice(cls, name: str, settings: Mapping[str, str]) -> type[Self]:
        """See `Contract.for_choice`; when nothing was left open, connecting must succeed."""
        made = super().for_choice(name, settings)
        if made.changed:
            return made  # its port is a placeholder, perhaps
        return cast(type[Self], type(made.__name__, (made,), {"has_device": lambda self: True}))

    def connected(self) -> Any:
        """A connected device, which is disconnected when the rule ends; skips the rule without one."""
        self.require_device()
        device = self.make_device()
        self.at_end(lambda: self._put_away(device))
        self.connect(device)
        return device

    def require_device(self) -> None:
        """Skip the rule unless there is a device and it may be used."""
        if not self.may_connect:
            skip("needs a device, and `may_connect` is False (`lerobot-ext check --connect` allows it)")
        if not self.has_device():
            skip(f"no device is reachable: {self._no_device or '`has_device` says so'}")

    @staticmethod
    def _put_away(device: Any) -> None:
        if device.is_connected:
            device.disconnect()

    # Rules

    @rule(
        remedy="name the device's class like its config without `Config`, and export it from the package "
        "that holds the config (or from a module named like the class in lower case)",
        needs=["requirements-are-installed"],
    )
    def test_factory_builds_it(self) -> None:
        """LeRobot's factory finds the device's class from the config's and builds it."""
        try:
            self.build_once()
        except OSError as error:
            broken(f"it cannot be built where the device is not there: {describe_error(error)}")

    @rule(remedy="open ports and connections in `connect()`, not in `__init__`", needs=["factory-builds-it"])
    def test_construction_touches_nothing(self) -> None:
        """Building the device opens no port and no connection: that is left to `connect()`."""
        self.make_device()  # imports what it needs
        with touches() as seen:
            device = self.make_device()
        if seen:
            broken("; ".join(dict.fromkeys(seen)))
        if device.is_connected is not False:
            broken(f"`is_connected` is {device.is_connected!r} before `connect()`")

    @rule(
        remedy="decorate the methods with `@check_if_not_connected` of `lerobot.utils.decorators`",
        needs=["construction-touches-nothing"],
    )
    def test_refuses_use_while_disconnected(self) -> None:
        """Before `connect()`, whatever needs the device raises DeviceNotConnectedError."""
        self._all_refused(self.make_device(), "before `connect()`")

    def _all_refused(self, device: Any, when: str) -> None:
        for name, use in self.uses(device).items():
            try:
                use()
            except (ConnectionError, NotImplementedError):  # LeRobot's two errors are ConnectionErrors
                continue
            except Exception as error:  # noqa: BLE001 - the wrong error is what is looked for
                broken(f"`{name}` {when} raises {describe_error(error)} instead of DeviceNotConnectedError")
            broken(f"`{name}` {when} works")

    @rule(
        remedy="let `disconnect()` without a connection do nothing, or raise DeviceNotConnectedError",
        needs=["construction-touches-nothing"],
    )
    def test_disconnect_without_connection_is_harmless(self) -> None:
        """`disconnect()` without a connection does nothing, or raises DeviceNotConnectedError."""
        try:
            self.make_device().disconnect()
        except ConnectionError:
            pass
        except Exception as error:  # noqa: BLE001 - the wrong error is what is looked for
            broken(describe_error(error))

    @rule(
        remedy="set everything up in `connect()`, take it down in `disconnect()`; `is_connected` says which",
        needs=["construction-touches-nothing"],
    )
    def test_connects(self) -> None:
        """`connect()` leads to `is_connected`, `disconnect()` ends it."""
        device = self.connected()
        if device.is_connected is not True:
            broken(f"`is_connected` is {device.is_connected!r} after `connect()`")
        device.disconnect()
        if device.is_connected is not False:
            broken(f"`is_connected` is {device.is_connected!r} after `disconnect()`")

    @rule(
        remedy="decorate `connect` with `@check_if_already_connected` of `lerobot.utils.decorators`",
        needs=["connects"],
    )
    def test_refuses_a_second_connect(self) -> None:
        """`connect()` on a connected device raises DeviceAlreadyConnectedError and leaves it connected."""
        device = self.connected()
        try:
            self.connect(device)
        except ConnectionError:
            pass
        except Exception as error:  # noqa: BLE001 - the wrong error is what is looked for
            broken(f"it raises {describe_error(error)} instead of DeviceAlreadyConnectedError")
        else:
            broken("it connects a second time")
        if not device.is_connected:
            broken("the refusal ended the first connection")

    @rule(
        remedy="make `disconnect()` forget the connection, so that later calls are refused as before "
        "`connect()`",
        needs=["connects", "refuses-use-while-disconnected"],
    )
    def test_refuses_use_after_disconnect(self) -> None:
        """After `disconnect()`, whatever needs the device raises DeviceNotConnectedError again."""
        device = self.connected()
        device.disconnect()
        self._all_refused(device, "after `disconnect()`")

    @rule(
        remedy="create in `connect()` what `disconnect()` takes down: threads, buffers, sockets",
        needs=["connects"],
    )
    def test_reconnects(self) -> None:
        """The same object can be connected again after `disconnect()`, and works."""
        device = self.connected()
        device.disconnect()
        self.connect(device)
        self.prove_use(device)

    def prove_use(self, device: Any) -> None:
        """Use the connected `device` once; raises when it does not work."""
        next(iter(self.uses(device).values()))()

    @rule(remedy="stop and join in `disconnect()` every thread that `connect()` started", needs=["connects"])
    def test_leaves_no_thread_behind(self) -> None:
        """Threads that `connect()` started end with `disconnect()`."""
        before = set(threading.enumerate())
        device = self.connected()
        self.prove_use(device)
        device.disconnect()
        end = time.monotonic() + _THREADS_MAY_TAKE_S
        while left := [t.name for t in threading.enumerate() if t not in before and t.is_alive()]:
            if time.monotonic() > end:
                broken(f"still running {_THREADS_MAY_TAKE_S:g} s after `disconnect()`: {', '.join(left)}")
            time.sleep(0.02)
