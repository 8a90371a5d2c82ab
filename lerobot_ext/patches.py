# SPDX-License-Identifier: Apache-2.0
"""Changes to LeRobot that can be taken back: every place where ours stands in for its code is one `Patch`.

    _patch = Patch("training loop", lost="no metrics.csv")

    def install(script):
        return _patch.install({(script, "update_policy"): _update_policy})

    def _update_policy(*words, **named):
        return _patch.stock("update_policy")(*words, **named)

A patch is all or nothing: it goes in only for the LeRobot versions it is tested with, and not at all when one
of the names is gone. `uninstall` puts back what was there, but where somebody else has replaced ours since:
theirs stays, and what they hold of ours does from then on what LeRobot's own does. `replaced` is for the
length of a `with`.
"""

import functools
import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from lerobot_ext.lerobot_window import is_known

logger = logging.getLogger(__name__)

Place = tuple[ModuleType | type, str]


class Patch:
    """A set of attributes of LeRobot's modules and classes that are replaced together.

    Args:
        part (`str`): What is changed, for the log: `training loop`.
        lost (`str`): What the user has to do without where it is not: `no metrics.csv`.
    """

    def __init__(self, part: str, lost: str) -> None:
        self.part = part
        self.lost = lost
        self._before: dict[Place, Any] = {}
        self._ours: dict[Place, Any] = {}

    @property
    def installed(self) -> bool:
        """Whether ours stand in for LeRobot's at this moment."""
        return bool(self._before)

    def install(self, replacements: Mapping[Place, Any]) -> bool:
        """Put the replacements in place; again, while they are in place, changes nothing.

        A function that replaces a function gets its name, docstring and signature; classes and other values
        are put in as they are.

        Args:
            replacements (`Mapping`): `(module or class, attribute)` to what stands there from now on.

        Returns:
            Whether they are in place. Not for a LeRobot outside the tested window or without one of the
            attributes; one log line says so.
        """
        if self._before:
            return True
        if not is_known(self.part, self.lost, logger):
            return False
        missing = [f"{owner.__name__}.{name}" for owner, name in replacements if not hasattr(owner, name)]
        if missing:
            logger.warning(
                "lerobot_ext: LeRobot has no %s, so its %s was left alone; %s. Install lerobot>=0.6.1,<0.7.",
                ", ".join(missing),
                self.part,
                self.lost,
            )
            return False
        for (owner, name), new in replacements.items():
            # Of a class its own dictionary, so that static and class methods come back as they were.
            stock = inspect.getattr_static(owner, name)
            self._before[owner, name] = stock
            ours = self._while_installed((owner, name), stock, new)
            self._ours[owner, name] = ours
            setattr(owner, name, ours)
        return True

    def uninstall(self) -> None:
        """Give LeRobot its own code back, but where somebody else has replaced ours since."""
        for (owner, name), stock in self._before.items():
            if inspect.getattr_static(owner, name, None) is self._ours[owner, name]:
                setattr(owner, name, stock)
        self._before.clear()
        self._ours.clear()

    def _while_installed(self, place: Place, stock: Any, new: Any) -> Any:
        """`new` as it stands in place of `stock`; a function is stock's again once the patch is taken out."""
        if not inspect.isfunction(stock):
            return new

        @functools.wraps(stock)
        def standing_in(*words: Any, **named: Any) -> Any:
            # Whoever wrapped ours, and calls it after `uninstall`, must not find it without its stock.
            return (new if self._ours.get(place) is standing_in else stock)(*words, **named)

        return standing_in

    def stock(self, name: str, owner: ModuleType | type | None = None) -> Any:
        """What stood at an attribute before; `owner` is only needed where two owners have the same name.

        Raises:
            KeyError: The patch is not in place, or does not change that attribute.
        """
        for (holder, attribute), stock in self._before.items():
            if attribute == name and owner in (None, holder):
                return stock
        raise KeyError(f"{self.part}: {name} is not replaced")


@contextmanager
def replaced(module: ModuleType, **names: Any) -> Iterator[dict[str, Any]]:
    """Give a module other values for some names, for a while; whatever its LeRobot's version is.

    Args:
        module (`ModuleType`): Whose names.
        **names: What stands there meanwhile; functions as in `Patch.install`.

    Yields:
        What stood there before, by name.
    """
    before = {name: getattr(module, name) for name in names}
    try:
        for name, new in names.items():
            setattr(module, name, _standing_for(before[name], new))
        yield before
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def _standing_for(stock: Any, new: Any) -> Any:
    """`new` as it stands in place of `stock`: of a function with its signature, which others may read."""
    if not inspect.isfunction(stock):
        return new
    if inspect.isfunction(new):
        return functools.wraps(stock)(new)

    @functools.wraps(stock)
    def standing_in(*words: Any, **named: Any) -> Any:  # a bound method cannot have another's signature
        return new(*words, **named)

    return standing_in
