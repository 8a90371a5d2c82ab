# SPDX-License-Identifier: Apache-2.0
"""The one way to replace a name in a LeRobot choice registry, such as `--robot.type=koch_follower`.

draccus refuses a second class under a registered name, and LeRobot swallows that error at plugin import: the
user would silently get the stock class. `replace_choice` puts a *subclass* of the registered class in its
place, keeps the old one reachable as `<name>_stock`, and remembers the replacement so that `lerobot-ext
doctor` can verify that it still holds.

No attribute of a LeRobot module is touched: code that asks the registry gets the new class, code that imports
the stock class by name still gets the stock class.
"""

from dataclasses import dataclass
from typing import Any


class OverrideError(RuntimeError):
    """A registry name could not be replaced; the message names the registry, both classes and the remedy."""


@dataclass(frozen=True)
class Override:
    """One replaced name.

    Args:
        base (`type`): Registry class, such as LeRobot's `RobotConfig`.
        name (`str`): Registered name, such as `koch_follower`.
        new_cls (`type`): The class that took the name.
        old_cls (`type`): The class it replaced, registered as `<name>_stock`.
    """

    base: type
    name: str
    new_cls: type
    old_cls: type

    @property
    def in_effect(self) -> bool:
        """Whether the registry still answers `name` with the new class."""
        return _registry(self.base).get(self.name) is self.new_cls

    @property
    def problem(self) -> str:
        """Empty when in effect, else one sentence that names what took the place and what to do."""
        if self.in_effect:
            return ""
        taken_by = _registry(self.base).get(self.name)
        return (
            f"{self.base.__name__} choice {self.name!r} should be {_path(self.new_cls)}, "
            f"it is {_path(taken_by)}; {_culprit(taken_by)}"
        )


_overrides: dict[tuple[type, str], Override] = {}


def replace_choice(base: Any, name: str, new_cls: type) -> None:
    """Make `base`'s choice `name` mean `new_cls`, and keep the class it meant as `<name>_stock`.

    Calling it again with the same class changes nothing. The position of `name` in the list of choices stays.

    Args:
        base (`type`): A draccus `ChoiceRegistry`, such as `RobotConfig` or `TeleoperatorConfig`. The module
            of the stock class must have been imported, so that its name is registered.
        name (`str`): The registered name to replace.
        new_cls (`type`): A subclass of the class registered now.

    Raises:
        OverrideError: `name` is not registered, `new_cls` is no subclass of what is registered (another
        plugin took the
            name), `<name>_stock` belongs to something else, or draccus no longer hands out its live registry.

    Example:
        ```python
        replace_choice(RobotConfig, "koch_follower", KochFollowerConfig)
        ```
    """
    registry = _registry(base)
    old_cls = registry.get(name)
    if old_cls is new_cls:
        return
    if old_cls is None:
        raise OverrideError(
            f"{base.__name__} has no choice {name!r} to replace; import the LeRobot module that registers "
            f"it first. "
            f"Known choices: {', '.join(sorted(registry)) or 'none'}."
        )
    if not issubclass(new_cls, old_cls):
        raise OverrideError(
            f"{base.__name__} choice {name!r} is {_path(old_cls)}, and {_path(new_cls)} is not a subclass "
            f"of it; "
            f"{_culprit(old_cls)}."
        )
    stock_name = f"{name}_stock"
    if registry.setdefault(stock_name, old_cls) is not old_cls and (base, name) not in _overrides:
        raise OverrideError(
            f"{base.__name__} choice {stock_name!r}, needed for the stock class, already is "
            f"{_path(registry[stock_name])}; {_culprit(registry[stock_name])}."
        )
    registry[name] = new_cls
    if base.get_choice_class(name) is not new_cls:
        raise OverrideError(
            f"writing {name!r} to {base.__name__}'s registry had no effect: this draccus keeps its registry "
            f"elsewhere. "
            "Install draccus>=0.11.6,<0.12, or update lerobot_ext."
        )
    _overrides[(base, name)] = Override(base, name, new_cls, old_cls)


def overrides() -> list[Override]:
    """Every replacement made in this process, in the order in which they were made."""
    return list(_overrides.values())


def check() -> list[str]:
    """One sentence for each replacement that is no longer in effect; empty when all hold."""
    return [override.problem for override in overrides() if override.problem]


def _registry(base: Any) -> dict[str, type]:
    """The live registry of `base`: draccus hands out the dictionary itself, not a copy."""
    getter = getattr(base, "get_known_choices", None)
    registry = getter() if callable(getter) else None
    if not callable(getter) or not isinstance(registry, dict) or getter() is not registry:
        raise OverrideError(
            f"{getattr(base, '__name__', base)!s} does not expose a draccus choice registry; "
            "install draccus>=0.11.6,<0.12, or update lerobot_ext."
        )
    return registry


def _path(cls: type | None) -> str:
    """Dotted path of a class, for messages."""
    return "nothing" if cls is None else f"{cls.__module__}.{cls.__qualname__}"


def _culprit(cls: type | None) -> str:
    """What to do about the class that holds a name we want."""
    if cls is None:
        return "something removed it: run `lerobot-ext doctor`"
    package = cls.__module__.partition(".")[0]
    if package == "lerobot":
        return "this LeRobot changed the class: install a LeRobot within our version window"
    return f"package {package!r} took the name: uninstall it or this plugin"
