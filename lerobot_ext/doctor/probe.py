# SPDX-License-Identifier: Apache-2.0
"""Loads LeRobot and every plugin like a stock command line does, in a process of its own.

A plugin may do anything at import: raise, print, hang, end the process. So `run_probe` starts a child, which
writes one JSON line per event to a file; whatever the child dies of, the last line says at which plugin.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TIMEOUT_S = 180.0
# What the stock command lines import before they load plugins; a missing extra only shortens the list of
# choices.
_STOCK_MODULES = ("lerobot.scripts.lerobot_record", "lerobot.scripts.lerobot_train")
_REGISTRIES = {
    "robot": ("lerobot.robots.config", "RobotConfig"),
    "teleoperator": ("lerobot.teleoperators.config", "TeleoperatorConfig"),
    "camera": ("lerobot.cameras.configs", "CameraConfig"),
    "policy": ("lerobot.configs.policies", "PreTrainedConfig"),
    "env": ("lerobot.envs.configs", "EnvConfig"),
    "optimizer": ("lerobot.optim.optimizers", "OptimizerConfig"),
    "scheduler": ("lerobot.optim.schedulers", "LRSchedulerConfig"),
    "reward model": ("lerobot.configs.rewards", "RewardModelConfig"),
}


@dataclass
class Probe:
    """What the child found.

    Args:
        lerobot_error (`str`): Why LeRobot itself does not import, empty when it does.
        ended (`str`): How the child ended at no plugin's fault before it had seen all, such as "did not
            finish within 180 s"; empty when it came to its end.
        failures (`dict[str, dict]`): By plugin distribution that LeRobot could not import: `error`, `where`,
            `missing`.
        loader_started (`bool`): Whether a plugin that LeRobot imported loaded our entry-point group.
        reports (`list[dict]`): `PluginReport` of each entry point of that group.
        commands (`dict[str, dict]`): By `lerobot-ext` command that is broken: `error` and `remedy`.
        registered (`dict[str, list[str]]`): Registered names by top-level package, such as `robot
            koch_follower`.
        overrides (`list[dict]`): Each replaced name: `name`, `package`, `problem`.
    """

    lerobot_error: str = ""
    ended: str = ""
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    loader_started: bool = False
    reports: list[dict[str, Any]] = field(default_factory=list)
    commands: dict[str, dict[str, str]] = field(default_factory=dict)
    registered: dict[str, list[str]] = field(default_factory=dict)
    overrides: list[dict[str, str]] = field(default_factory=list)


def run_probe(distributions: Iterable[str], timeout_s: float = _TIMEOUT_S) -> Probe:
    """Import LeRobot and the plugins in a child process.

    Args:
        distributions (`Iterable[str]`): Names of the distributions that LeRobot discovers.
        timeout_s (`float`, *optional*, defaults to 180): How long the child may take.

    Returns:
        What it found. A plugin that ends or hangs the child is noted as failed and left out of another
        attempt.
    """
    left = list(distributions)
    deadly: dict[str, dict[str, str]] = {}
    while True:
        events, ending = _run_child(left, timeout_s)
        probe = _collect(events)
        probe.failures |= deadly
        if events and events[-1]["event"] == "done":
            return probe
        culprit = _unfinished(events)
        if culprit not in left:
            probe.ended = "" if probe.lerobot_error else ending
            return probe
        left.remove(culprit)
        deadly[culprit] = {"error": f"its import {ending}", "where": "", "missing": ""}


def _run_child(distributions: list[str], timeout_s: float) -> tuple[list[dict[str, Any]], str]:
    """Run the child once; its events, and how it ended in words."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "events.jsonl"
        notes.touch()
        try:
            ran = subprocess.run(
                [sys.executable, "-m", "lerobot_ext.doctor.probe", str(notes), *distributions],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
            )
            last = ran.stderr.strip().splitlines()[-1:] or [""]
            ending = f"ended the process with status {ran.returncode}" + (f" ({last[0]})" if last[0] else "")
        except subprocess.TimeoutExpired:
            ending = f"did not finish within {timeout_s:.0f} s"
        return [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()], ending


def _unfinished(events: list[dict[str, Any]]) -> str:
    """The plugin whose import began last, if nothing was noted after."""
    return str(events[-1]["name"]) if events and events[-1]["event"] == "begin" else ""


def _collect(events: list[dict[str, Any]]) -> Probe:
    """Sort the child's events into a `Probe`."""
    probe = Probe()
    for event in events:
        kind = event.pop("event")
        if kind == "failed":
            probe.failures[event.pop("name")] = event
        elif kind == "result":
            probe = Probe(**{**event, "failures": probe.failures})
        event["event"] = kind
    return probe


# The child


def main(arguments: list[str]) -> int:
    """Import LeRobot, then the distributions named, noting each step in the file that comes first."""
    notes, distributions = arguments[0], arguments[1:]
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with open(notes, "a", encoding="utf-8") as sink:

        def note(event: str, **values: Any) -> None:
            sink.write(json.dumps({"event": event, **values}) + "\n")
            sink.flush()

        problem = _import_stock()
        for name in distributions:
            note("begin", name=name)
            try:
                importlib.import_module(name)
                note("imported", name=name)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - reported
                note("failed", name=name, **_cause(error))
        from lerobot_ext import overrides, plugins

        started = plugins._started
        note("group")
        plugins.load_all()
        note(
            "result",
            lerobot_error=problem,
            loader_started=started,
            reports=[vars(entry) for entry in plugins.report()],
            commands=_broken_commands(),
            registered=_registered(),
            overrides=[
                {
                    "name": f"{entry.base.__name__} {entry.name}",
                    "package": entry.new_cls.__module__.partition(".")[0],
                    "problem": entry.problem,
                }
                for entry in overrides.overrides()
            ],
        )
        note("done")
    return 0


def _import_stock() -> str:
    """Import what a stock command line has loaded when it looks for plugins.

    Returns:
        Why LeRobot does not import, empty when it does.
    """
    try:
        importlib.import_module("lerobot.utils.import_utils")
    except Exception as error:  # noqa: BLE001 - reported
        return _cause(error)["error"]
    for module in _STOCK_MODULES:
        try:
            importlib.import_module(module)
        except ImportError:
            continue  # an extra that is not installed: the command line in question cannot run either
    return ""


def _cause(error: BaseException) -> dict[str, str]:
    """What went wrong, in one line, and the innermost line of code that is not Python's import machinery."""
    from lerobot_ext.plugins import describe_error

    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    last = frames[-1] if frames else None
    # The first frame is this file's; then the failing module is not there at all.
    where = f"{last.filename}:{last.lineno}" if last is not None and last.filename != __file__ else ""
    return {"error": describe_error(error), "where": where, "missing": getattr(error, "name", None) or ""}


def _broken_commands() -> dict[str, dict[str, str]]:
    from lerobot_ext.cli.command import CommandError
    from lerobot_ext.cli.main import command_entry_points, load_command

    broken = {}
    for name in command_entry_points():
        try:
            load_command(name)
        except CommandError as error:
            broken[name] = {"error": str(error), "remedy": error.remedy}
    return broken


def _registered() -> dict[str, list[str]]:
    """Registered names by the top-level package of their class; LeRobot's own are left out."""
    found: dict[str, list[str]] = {}
    for kind, (module, name) in _REGISTRIES.items():
        base = getattr(sys.modules.get(module), name, None)
        for choice, cls in base.get_known_choices().items() if base is not None else ():
            found.setdefault(cls.__module__.partition(".")[0], []).append(f"{kind} {choice}")
    pipeline = sys.modules.get("lerobot.processor.pipeline")
    if pipeline is not None:
        steps = pipeline.ProcessorStepRegistry
        for step in steps.list():
            cls = steps.get(step)
            found.setdefault(cls.__module__.partition(".")[0], []).append(f"step {step}")
    return {package: sorted(names) for package, names in found.items() if package != "lerobot"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
