# SPDX-License-Identifier: Apache-2.0
"""Loads every plugin of entry-point group `lerobot_ext.plugins` once, and remembers what became of each.

LeRobot imports the distributions whose name starts with one of its five prefixes. Each of our plugins ends
its `__init__` with `load_all()`, so the first of them that LeRobot imports brings in the whole group:
third-party plugins of any name, and packages that only hold processor steps, reach the stock command lines as
well.

An entry point names a module (`my_plugin = "my_plugin"`: importing it registers its parts) or a function
(`my_plugin = "my_plugin.setup:register"`: it is called without arguments). A plugin that fails is logged in
one line and never stops LeRobot or the other plugins.
"""

import logging
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from types import ModuleType
from typing import Literal

GROUP = "lerobot_ext.plugins"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PluginReport:
    """What became of one plugin.

    Args:
        name (`str`): Name of its entry point.
        distribution (`str`): Distribution that declares the entry point, empty when unknown.
        version (`str`): Version of that distribution.
        module (`str`): What the entry point names, `package.module` or `package.module:function`.
        status (`str`): `loaded`, `failed`, or `loading` while its import is still under way.
        error (`str`, *optional*, defaults to `""`): Cause of a failure, type and message in one line.
        remedy (`str`, *optional*, defaults to `""`): What the user can do about it.
    """

    name: str
    distribution: str
    version: str
    module: str
    status: Literal["loaded", "failed", "loading"]
    error: str = ""
    remedy: str = ""


_lock = threading.RLock()
_started = False
_reports: dict[tuple[str, str], PluginReport] = {}


def load_all() -> None:
    """Load all plugins of the group; the first call in a process does the work, later ones return at once.

    Plugins call this from their own `__init__`, so it is re-entered while it runs and is met by half-imported
    modules: both are expected. It never raises: failures are logged once each and kept for `report()`.
    """
    global _started
    with _lock:
        if _started:
            return
        _started = True
        for entry_point in _entry_points():
            _load(entry_point)


def report() -> list[PluginReport]:
    """What became of each plugin of the group, sorted by name; empty before `load_all()` ran.

    Returns:
        A list of `PluginReport`. A plugin whose import was under way when the group was loaded and failed
        afterwards (LeRobot was importing it) is reported as failed.
    """
    with _lock:
        return sorted((_settled(entry) for entry in _reports.values()), key=lambda entry: entry.name)


def when_imported(module: str, register: Callable[[], object]) -> None:
    """Run `register` as soon as `module` is there: at once if it is imported, else right after its import.

    A plugin's `__init__` hands over its registrations this way, so that importing the plugin alone costs
    nothing: `lerobot-ext sim` needs no torch, and a stock command line, which has imported all of LeRobot by
    then, gets everything at once.

    Args:
        module (`str`): The LeRobot package to register with, such as `lerobot.envs`.
        register (`Callable`): Imports the plugin's own modules and registers what they hold. Late failures
            are logged in one line, as `load_all` logs them: they must not break the import of LeRobot.

    Example:
        ```python
        when_imported("lerobot.envs", lambda: import_module("lerobot_env_koch.config"))
        ```
    """
    if module in sys.modules and not _being_imported(module):
        register()
        return

    def register_late(_: ModuleType) -> None:
        try:
            register()
        except Exception as error:  # noqa: BLE001 - the plugin boundary
            logger.error(
                "lerobot_ext: a plugin could not register with %s: %s. Remedy: run `lerobot-ext doctor`.",
                module,
                describe_error(error),
            )

    # Imported here: not every command line comes this far.
    import wrapt

    # LeRobot asks for plugins while it walks through `sys.meta_path` (`importlib.metadata.distributions` does
    # so lazily). wrapt puts its finder before the others; into the list that is being walked, and every
    # distribution would be listed, and its metadata parsed, once more.
    sys.meta_path = list(sys.meta_path)
    wrapt.register_post_import_hook(register_late, module)


def lazy_attributes(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """The `__getattr__` of a plugin's package: its public names are imported when they are first asked for.

    Args:
        package (`str`): The package's `__name__`.
        homes (`Mapping[str, str]`): Module below the package that holds each public name.

    Example:
        ```python
        __getattr__ = lazy_attributes(__name__, {"KochEnvConfig": "config"})
        ```
    """

    def __getattr__(name: str) -> object:  # noqa: N807 - becomes the package's own
        if name in homes:
            return getattr(import_module(f"{package}.{homes[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__


def _entry_points() -> Iterable[metadata.EntryPoint]:
    """The group's entry points, each once; an unreadable environment is logged, not raised."""
    try:
        found = metadata.entry_points(group=GROUP)
    except Exception as error:  # noqa: BLE001 - must not stop a stock command
        logger.error(
            "lerobot_ext: the list of installed plugins cannot be read: %s. Remedy: run `pip check` and "
            "reinstall the "
            "distribution it names.",
            describe_error(error),
        )
        return []
    # An editable install can leave a second metadata folder on the path: the same entry point is then listed
    # twice.
    return {(entry_point.name, entry_point.value): entry_point for entry_point in found}.values()


def _load(entry_point: metadata.EntryPoint) -> None:
    """Import (and call) one plugin and record what became of it."""
    distribution = entry_point.dist
    entry = PluginReport(
        name=entry_point.name,
        distribution=distribution.name if distribution else "",
        version=distribution.version if distribution else "",
        module=entry_point.value,
        status="loaded",
    )
    try:
        if not entry_point.attr and _being_imported(entry_point.module):
            entry = replace(entry, status="loading")
        else:
            plugin = entry_point.load()
            if callable(plugin) and not isinstance(plugin, ModuleType):
                plugin()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the plugin boundary
        entry = replace(
            entry, status="failed", error=describe_error(error), remedy=remedy_for(error, entry_point)
        )
        logger.error(
            "lerobot_ext: plugin %r (%s %s) could not be loaded: %s. Remedy: %s",
            entry.name,
            entry.distribution or "unknown distribution",
            entry.version,
            entry.error,
            entry.remedy,
        )
    _reports[(entry_point.name, entry_point.value)] = entry


def _being_imported(module: str) -> bool:
    """Whether the import of `module` is under way further up the stack: it called `load_all()` itself."""
    return bool(getattr(getattr(sys.modules.get(module), "__spec__", None), "_initializing", False))


def _settled(entry: PluginReport) -> PluginReport:
    """`entry` with `loading` replaced by what the import came to, once it is over."""
    module = entry.module.partition(":")[0].strip()
    if entry.status != "loading" or _being_imported(module):
        return entry
    if module in sys.modules:
        return replace(entry, status="loaded")
    return replace(
        entry,
        status="failed",
        error=f"the import of {module} failed after it had asked for the other plugins",
        remedy=f"run `python -c 'import {module}'` to see why",
    )


def describe_error(error: BaseException) -> str:
    """Type and message of `error` in one line."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def remedy_for(error: BaseException, entry_point: metadata.EntryPoint) -> str:
    """What the user can do about a plugin, or a command, whose entry point failed with `error`.

    Args:
        error (`BaseException`): What `entry_point.load()` or the plugin's own code raised.
        entry_point (`EntryPoint`): The entry point that failed.

    Returns:
        One sentence without a full stop.
    """
    name = entry_point.dist.name if entry_point.dist else entry_point.name
    missing = getattr(error, "name", None) or ""
    package = missing.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and package == entry_point.module.partition(".")[0]:
        return f"its entry point names {missing!r}, which is not installed: reinstall {name} or uninstall it"
    if isinstance(error, ImportError) and package == "lerobot":
        return (
            f"it needs another LeRobot: {lerobot_window(entry_point.dist)}; install matching versions of both"
        )
    if isinstance(error, ModuleNotFoundError):
        return (
            f"install what is missing: `pip install --force-reinstall {name}` brings its declared "
            f"dependencies; "
            f"if {package!r} stays missing, {name} does not declare it: install the package that provides it"
        )
    if isinstance(error, AttributeError) and entry_point.attr and entry_point.attr in str(error):
        return f"its entry point names `{entry_point.value}`, which is not there: update or uninstall {name}"
    if "already registered" in str(error):
        return f"another plugin took that name: uninstall it or {name}; `lerobot-ext doctor` names both"
    return f"run `python -c 'import {entry_point.module}'` to see where, then update {name} or uninstall it"


def lerobot_window(distribution: metadata.Distribution | None) -> str:
    """The LeRobot versions `distribution` asks for and the one installed, as a phrase for messages."""
    requires = (distribution.requires if distribution else None) or []
    wanted = next((line for line in requires if re.match(r"lerobot\b(?![_-])", line)), "no declared version")
    try:
        installed = metadata.version("lerobot")
    except metadata.PackageNotFoundError:
        installed = "none"
    return f"it asks for {wanted.partition(';')[0].strip()}, installed is {installed}"
