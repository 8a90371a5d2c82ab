# SPDX-License-Identifier: Apache-2.0
"""How a contract is tested: against a healthy plugin, and against one broken plugin a rule.

Each broken plugin is the healthy one with one thing changed, and only its own rule may notice.
"""

import socket
import sys
import threading
from dataclasses import make_dataclass

from lerobot.utils.errors import DeviceNotConnectedError

from lerobot_ext.testing.contract import Contract, run_contract


def failures(contract: type[Contract]) -> list[str]:
    """The rules that `contract` finds broken, by the part of their name after the slash."""
    return [o.rule.name.partition("/")[2] for o in run_contract(contract) if o.status == "failed"]


def rule_names(contract: type[Contract]) -> set[str]:
    return {rule.name.partition("/")[2] for rule in contract.rules()}


def variant(config_class, name, fields=(), **namespace):
    """A config class derived from `config_class`, at home in its module, so that pickle finds it."""
    module = sys.modules[config_class.__module__]
    name = f"{name}{config_class.__name__}"
    if not hasattr(module, name):
        made = make_dataclass(
            name, fields, bases=(config_class,), kw_only=True, namespace=namespace, module=module.__name__
        )
        setattr(module, name, made)
    return getattr(module, name)


def with_config(healthy: type[Contract], config_class, register=True) -> type[Contract]:
    """`healthy` with another config class."""
    if register:
        healthy.base().register_subclass(config_class.__name__.lower(), config_class)
    return type(config_class.__name__, (healthy,), {"make_config": lambda self: config_class()})


def broken_configs(healthy: type[Contract], config_class) -> dict[str, type[Contract]]:
    """A broken plugin for each rule about configs.

    Args:
        healthy (`type[Contract]`): Builds its toy from any config of the right kind.
        config_class (`type`): The toy's config, whose `check` refuses `speed=0`.
    """

    def count(self):
        config_class.__post_init__(self)
        self.n += 1

    def no_pickle(self, protocol):
        raise TypeError("cannot pickle a lock")

    return {
        "config-builds": type("Nonsense", (healthy,), {"make_config": lambda self: "nonsense"}),
        "config-is-registered": with_config(healthy, variant(config_class, "Unregistered"), register=False),
        "config-survives-json": with_config(
            healthy, variant(config_class, "Unstable", [("n", int, 0)], __post_init__=count)
        ),
        "config-pickles": with_config(healthy, variant(config_class, "Stuck", __reduce_ex__=no_pickle)),
        "refuses-bad-settings": with_config(
            healthy, variant(config_class, "Careless", check=lambda self: None)
        ),
    }


class NeedsMore:
    def __init__(self, config):
        import driver_that_is_not_there  # noqa: F401


class TouchesWhenBuilt:
    def __init__(self, config):
        super().__init__(config)
        with socket.socket() as connection:
            connection.connect_ex(("127.0.0.1", 9))


class WrongErrorBeforeConnect:
    once = False

    def connect(self, *args, **kwargs):
        super().connect(*args, **kwargs)
        self.once = True

    def require(self):
        if not self.once:
            raise RuntimeError("the port is closed")
        super().require()


class CrashesWithoutConnection:
    def disconnect(self):
        if not self.on:
            raise AttributeError("'NoneType' object has no attribute 'close'")
        super().disconnect()


class StaysConnected:
    def disconnect(self):
        super().disconnect()
        self.on = True


class ConnectsTwice:
    def connect(self, *args, **kwargs):
        if self.on:
            self.disconnect()
        super().connect(*args, **kwargs)


class WorksAfterDisconnect:
    once = False

    def connect(self, *args, **kwargs):
        super().connect(*args, **kwargs)
        self.once = True

    def require(self):
        if not self.once:
            raise DeviceNotConnectedError


class ConnectsOnlyOnce:
    once = False

    def connect(self, *args, **kwargs):
        super().connect(*args, **kwargs)
        if self.once:
            raise RuntimeError("threads can only be started once")
        self.once = True


class LeavesAThread:
    def connect(self, *args, **kwargs):
        super().connect(*args, **kwargs)
        threading.Thread(target=threading.Event().wait, args=(10,), name="left over", daemon=True).start()


def broken_connections(healthy: type[Contract], device_class, config_class) -> dict[str, type[Contract]]:
    """A broken plugin for each rule about building and connecting.

    Args:
        healthy (`type[Contract]`): Builds a `device_class`.
        device_class (`type`): The healthy toy.
        config_class (`type`): Its config.
    """

    def built_as(broken):
        made = type(broken.__name__, (broken, device_class), {})
        return type(broken.__name__, (healthy,), {"build": lambda self, config: made(config)})

    # Its device would have to be called `Lonely`, and is not there.
    lonely = with_config(healthy, variant(config_class, "Lonely"))
    lonely.build = healthy.__mro__[1].build  # LeRobot's factory
    return {
        "requirements-are-installed": built_as(NeedsMore),
        "factory-builds-it": lonely,
        "construction-touches-nothing": built_as(TouchesWhenBuilt),
        "refuses-use-while-disconnected": built_as(WrongErrorBeforeConnect),
        "disconnect-without-connection-is-harmless": built_as(CrashesWithoutConnection),
        "connects": built_as(StaysConnected),
        "refuses-a-second-connect": built_as(ConnectsTwice),
        "refuses-use-after-disconnect": built_as(WorksAfterDisconnect),
        "reconnects": built_as(ConnectsOnlyOnce),
        "leaves-no-thread-behind": built_as(LeavesAThread),
    }
