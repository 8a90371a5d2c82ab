# SPDX-License-Identifier: Apache-2.0
"""Makes the config of a registered choice from a name and `field=value` texts, as the command lines do.

`lerobot-ext check` knows a plugin only by its registered name; a contract's `for_choice` gets its factory
from here. A field that has no default and was not given gets a placeholder, which the report names.
"""

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lerobot_ext.cli.command import CommandError
from lerobot_ext.plugins import describe_error

PLACEHOLDER = "lerobot-ext-check"
"""Stands for a name, port or address that was not given: nothing answers under it."""


@dataclass(frozen=True)
class ConfigFactory:
    """Builds one config again and again, equal each time.

    Args:
        base (`type`): LeRobot's registry, such as `RobotConfig`.
        name (`str`): The registered name.
        values (`dict[str, Any]`): Field values by name, nested where the config is.
        placeholders (`dict[str, str]`): Fields that got a placeholder, and what.
    """

    base: type
    name: str
    values: dict[str, Any]
    placeholders: dict[str, str]

    def __call__(self) -> Any:
        """A new config.

        Raises:
            CommandError: A value does not fit its field, or there is no such field.
        """
        import draccus
        from draccus.utils import DecodingError, ParsingError

        try:
            return draccus.decode(self.base, {"type": self.name, **self.values})
        except (DecodingError, ParsingError, TypeError) as error:
            cause = error.__cause__ or error
            known = ", ".join(
                sorted(field.name for field in _init_fields(choice_class(self.base, self.name)))
            )
            raise CommandError(
                f"`{self.name}` cannot be made: {describe_error(error)}"
                + (f" ({describe_error(cause)})" if cause is not error else ""),
                "".join(f"give `{name}` with `--set {name}=…`; " for name in self.placeholders)
                + f"{self.name} has the fields {known}",
            ) from error


def config_factory(base: type, name: str, settings: Mapping[str, str]) -> ConfigFactory:
    """The factory of the config that `base` knows as `name`.

    Args:
        base (`type`): LeRobot's registry, such as `RobotConfig`.
        name (`str`): The registered name.
        settings (`Mapping[str, str]`): Values as they would stand after `--policy.field=`; `region.yaw=0.1`
            reaches into a nested config.

    Raises:
        CommandError: `name` is not registered, or a field is set twice.
    """
    cls = choice_class(base, name)
    values = _nested(settings)
    placeholders: dict[str, str] = {}
    for field in _init_fields(cls):
        if field.name not in values and _is_required(field):
            value = _placeholder(typing.get_type_hints(cls).get(field.name, field.type))
            values[field.name] = value
            placeholders[field.name] = f"{value!r}, because it has no default (`--set {field.name}=…`)"
    return ConfigFactory(base, name, values, placeholders)


def choice_class(base: type, name: str) -> Any:
    """The class registered with `base` under `name`.

    Raises:
        CommandError: There is none; the nearest name, or all, are in the remedy.
    """
    known: dict[str, Any] = base.get_known_choices()  # type: ignore[attr-defined]
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    remedy = f"did you mean `{near[0]}`?" if near else f"registered are {', '.join(sorted(known)) or 'none'}"
    raise CommandError(f"no {base.__name__} is registered as {name!r}", remedy)


def text_value(text: str) -> Any:
    """What `text` means on a stock command line: YAML, so `3` is a number and `[1, 2]` a list."""
    from draccus.cfgparsing import parse_string

    return parse_string(text)


def _nested(settings: Mapping[str, str]) -> dict[str, Any]:
    """`{"a.b": "1"}` as `{"a": {"b": 1}}`."""
    values: dict[str, Any] = {}
    for path, text in settings.items():
        *parents, last = path.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise CommandError(
                    f"`{path}` is set, and `{parent}` as a whole as well", "set one or the other"
                )
        if last in place:
            raise CommandError(f"`{path}` is set, and a part of it as well", "set one or the other")
        try:
            place[last] = text_value(text)
        except Exception as error:  # whatever the YAML parser raises: the text is the user's
            raise CommandError(
                f"`{path}` cannot be read from {text!r}: {describe_error(error)}",
                "write it as on a stock command line; quote a text with special characters twice",
            ) from error
    return values


def _init_fields(cls: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(cls) if field.init]


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _placeholder(kind: Any) -> Any:
    """A raw value that draccus decodes into `kind` and that means nothing."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        members = typing.get_args(kind)
        return None if type(None) in members else _placeholder(members[0])
    if origin is typing.Literal:
        return typing.get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind)).name
    makers: dict[Any, Callable[[], Any]] = {
        str: lambda: PLACEHOLDER,
        Path: lambda: PLACEHOLDER,
        bool: lambda: False,
        int: int,
        float: float,
        list: list,
        tuple: list,
        dict: dict,
        set: list,
    }
    maker = makers.get(origin or kind)
    if maker is not None:
        return maker()
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return {
            field.name: _placeholder(hints[field.name])
            for field in dataclasses.fields(kind)
            if field.init and _is_required(field)
        }
    return None
