# SPDX-License-Identifier: Apache-2.0
"""What holds for everything that LeRobot builds from a registered config: robots, cameras, environments."""

import json
import pickle
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar, Self, cast

from lerobot_ext.plugins import describe_error
from lerobot_ext.testing.choices import config_factory
from lerobot_ext.testing.contract import Contract, broken, rule, skip


class ConfiguredContract(Contract):
    """Rules about the config; override `make_config`."""

    registry: ClassVar[tuple[str, str]]
    """Module and class of the registry: `("lerobot.robots.config", "RobotConfig")`."""

    def make_config(self) -> Any:
        """A new config, equal each time; the one method that an author must write."""
        raise NotImplementedError(
            f"{type(self).__name__}: override `make_config` so that it returns a {self.registry[1]}"
        )

    def bad_settings(self) -> dict[str, Any]:
        """Fields with a value that the config must refuse, for `refuses-bad-settings`."""
        return {}

    def build_once(self) -> object:
        """Build from `make_config` what the contract is about, as LeRobot does."""
        raise NotImplementedError

    @classmethod
    def base(cls) -> Any:
        """The registry: the base class of all configs of this kind."""
        module, name = cls.registry
        return getattr(import_module(module), name)

    @classmethod
    def for_choice(cls, name: str, settings: Mapping[str, str]) -> type[Self]:
        """See `Contract.for_choice`."""
        make = config_factory(cls.base(), name, settings)
        make()  # settings that do not fit are the user's to mend, no broken rule
        members = {
            "make_config": lambda self: make(),
            "changed": make.placeholders,
            "__doc__": f"{cls.__name__} of `{name}`.",
        }
        return cast(type[Self], type(f"{cls.__name__}_{name}", (cls,), members))

    @rule(remedy="let `make_config` return an instance of the registry's config class, equal on each call")
    def test_config_builds(self) -> None:
        """`make_config` builds a config of the right kind, the same one on each call."""
        config, again = self.make_config(), self.make_config()
        if not isinstance(config, self.base()):
            broken(f"{type(config).__name__} is no {self.registry[1]}")
        if config != again:
            broken(f"two calls differ: {config} and {again}")

    @rule(
        remedy="decorate the config class with `@…Config.register_subclass(name)`, above `@dataclass`, and "
        "import its module in the package's `__init__`",
        needs=["config-builds"],
    )
    def test_config_is_registered(self) -> None:
        """The config's own class is registered, so that a command line and a saved file find it by name."""
        cls = type(self.make_config())
        known = self.base().get_known_choices()
        names = [name for name, choice in known.items() if choice is cls]
        if not names:
            parents = [name for name, choice in known.items() if issubclass(cls, choice)]
            hint = f"; only its parent is, as {parents[0]!r}" if parents else ""
            broken(f"{cls.__module__}.{cls.__qualname__} is not registered{hint}")

    @rule(
        remedy="install what the error names; a plugin declares it in `dependencies`, or names the extra "
        "that brings it",
        needs=["config-is-registered"],
    )
    def test_requirements_are_installed(self) -> None:
        """Whatever it imports when it is built is installed."""
        try:
            self.build_once()
        except Exception as error:  # noqa: BLE001 - all others are for the rules that follow
            missing = _missing_requirement(error)
            if missing:
                broken(missing)

    @rule(
        remedy="use fields of plain types (numbers, text, lists, dicts, enums, dataclasses), "
        "and leave no derived value in a field that `__post_init__` computes anew",
        needs=["config-is-registered"],
    )
    def test_config_survives_json(self) -> None:
        """The config comes back equal, and of its own class, from the JSON that LeRobot saves."""
        import draccus

        config = self.make_config()
        encoded = draccus.encode(config, self.base())
        again = draccus.decode(self.base(), json.loads(json.dumps(encoded)))
        if type(again) is not type(config):
            broken(f"a {type(config).__name__} comes back as a {type(again).__name__}")
        # Not `again != config`: a path given as a text comes back as a path, which is no loss.
        changed = draccus.encode(again, self.base())
        if changed != encoded:
            lost = {
                key: (encoded[key], changed.get(key)) for key in encoded if encoded[key] != changed.get(key)
            }
            broken(f"fields change: {lost or sorted(set(changed) ^ set(encoded))}")

    @rule(
        remedy="define the config's class at module level and keep locks, lambdas and open files out of it",
        needs=["config-builds"],
    )
    def test_config_pickles(self) -> None:
        """The config can be sent to a worker process."""
        config = self.make_config()
        if pickle.loads(pickle.dumps(config)) != config:
            broken("it comes back different")

    @rule(
        remedy="check the field in `__post_init__` and raise ValueError with its name and value",
        needs=["config-survives-json"],
    )
    def test_refuses_bad_settings(self) -> None:
        """A value that cannot work is refused with an error that names its field."""
        import draccus

        cases = self.bad_settings()
        if not cases:
            skip("`bad_settings` names none")
        encoded = draccus.encode(self.make_config(), self.base())
        for field, value in cases.items():
            try:
                draccus.decode(self.base(), {**encoded, field: value})
            except Exception as error:  # noqa: BLE001 - any refusal counts, its words are what is judged
                said = describe_error(error) + (describe_error(error.__cause__) if error.__cause__ else "")
                if field not in said:
                    broken(f"{field}={value!r} is refused, but the error does not name it: {said}")
            else:
                broken(f"{field}={value!r} is accepted")


def _missing_requirement(error: BaseException | None) -> str:
    """What is not installed, when that is why `error` was raised; else empty."""
    while error is not None:
        # LeRobot's factory says this of a class that it does not find, whatever is installed.
        if isinstance(error, ImportError) and "Could not locate device class" not in str(error):
            return describe_error(error)
        error = error.__cause__ or error.__context__
    return ""
