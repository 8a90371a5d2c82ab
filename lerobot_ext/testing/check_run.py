# SPDX-License-Identifier: Apache-2.0
"""Runs contracts on registered choices, each in a child process that may crash or hang without loss.

When a rule ends the child or takes too long, that is the rule's outcome; a new child tries the rules that are
left. `targets_of` finds out what a distribution registers.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from lerobot_ext.cli.command import CommandError
from lerobot_ext.testing.check_kinds import BY_NAME, has_contract
from lerobot_ext.testing.contract import Outcome, Rule

START_LIMIT_S = 300.0
"""How long importing LeRobot and all plugins may take."""

_SETTING_UP = Rule(
    name="check/can-be-set-up",
    statement="LeRobot's discovery ends, and the contract can be made from the registered name.",
    remedy="make the config with its defaults and the given settings in Python and see what it says",
    needs=(),
    test="",
)


@dataclass(frozen=True)
class Target:
    """One registered choice to check.

    Args:
        kind (`str`): Name of a `check_kinds.Kind`.
        choice (`str`): The registered name.
        settings (`dict[str, str]`): Fields to set.
    """

    kind: str
    choice: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What messages call it: `policy act`."""
        return f"{self.kind} {self.choice}"


@dataclass(frozen=True)
class Limits:
    """What a check may do.

    Args:
        only (`Sequence[str]`): Patterns of rule names; all rules when empty.
        rule_s (`float`): How long one rule may take.
        start_s (`float`): How long the imports may take.
        connect (`bool`): Whether rules may connect to a device, and move it.
    """

    only: Sequence[str] = ()
    rule_s: float = 300.0
    start_s: float = START_LIMIT_S
    connect: bool = False


@dataclass
class Checked:
    """What became of one target.

    Args:
        target (`Target`): What was checked.
        outcomes (`list[Outcome]`): In order; a child that could not even begin leaves one, of rule
            `check/can-be-set-up`.
        changed (`dict[str, str]`): What the contract set by itself, by field.
        package (`str`): Top-level package of the registered class.
        user_error (`bool`): Whether the name or a setting was wrong.
        seconds (`float`): How long it took.
    """

    target: Target
    outcomes: list[Outcome] = field(default_factory=list)
    changed: dict[str, str] = field(default_factory=dict)
    package: str = ""
    user_error: bool = False
    seconds: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """Outcomes by status."""
        counts = {"passed": 0, "failed": 0, "skipped": 0, "not reached": 0}
        for outcome in self.outcomes:
            counts[outcome.status] += 1
        return counts

    @property
    def summary(self) -> str:
        """`act: 31 passed, 2 failed, 4 skipped`."""
        parts = [f"{n} {status}" for status, n in self.counts.items() if n or status in ("passed", "failed")]
        return f"{self.target.choice}: {', '.join(parts)}"


Watcher = Callable[[str, int | None], None]
"""Is told what is going on, and how many rules there are once that is known."""


def check(target: Target, limits: Limits, watch: Watcher = lambda what, total: None) -> Checked:
    """Try the contract of `target`.

    Args:
        target (`Target`): What to check.
        limits (`Limits`): What it may do.
        watch (`Watcher`, *optional*): Told about each step, for a progress bar.
    """
    start = time.monotonic()
    checked = Checked(target)
    while True:
        child = _Child(target, limits, checked, watch)
        if child.run():
            break
        deadly = child.rule or _SETTING_UP
        checked.outcomes.append(Outcome(deadly, "failed", child.ending, child.rule_seconds))
        if child.rule is None:
            break
    checked.seconds = time.monotonic() - start
    return checked


class _Child:
    """One child process: started, listened to, and ended when it takes too long."""

    def __init__(self, target: Target, limits: Limits, checked: Checked, watch: Watcher) -> None:
        self.target, self.limits, self.checked, self.watch = target, limits, checked, watch
        self.rule: Rule | None = None
        self.doing = "starting"
        self.ending = ""
        self.rule_seconds = 0.0

    def run(self) -> bool:
        """Run it to its end; whether it said that it was done."""
        with tempfile.TemporaryDirectory(prefix="lerobot_ext_check_", ignore_cleanup_errors=True) as folder:
            events, said = Path(folder, "events.jsonl"), Path(folder, "said.txt")
            events.touch()
            request = Path(folder, "request.json")
            request.write_text(json.dumps(self._request(events)), encoding="utf-8")
            with open(said, "wb") as sink:
                process = subprocess.Popen(
                    [sys.executable, "-m", "lerobot_ext.testing.check_child", str(request)],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    env=self._environment(Path(folder)),
                    # A group of its own: what a plugin starts is ended with it.
                    start_new_session=True,
                )
                try:
                    done = self._listen(process, events)
                finally:
                    _end(process)
            if not done and not self.ending:
                self.ending = f"the process ended with {_status(process)}" + _last_line(said)
            return done

    def _listen(self, process: "subprocess.Popen[bytes]", events: Path) -> bool:
        """Take events until the child is done, dead or too slow."""
        last_news = time.monotonic()
        with open(events, encoding="utf-8") as source:
            while True:
                over = process.poll() is not None  # asked before reading: nothing is written afterwards
                for event in _whole_lines(source):
                    last_news = time.monotonic()
                    if self._take(event):
                        return True
                self.rule_seconds = time.monotonic() - last_news if self.rule else 0.0
                if over:
                    return False
                limit = self.limits.rule_s if self.rule else self.limits.start_s
                if time.monotonic() - last_news > limit:
                    what = "" if self.rule else f"{self.doing} "
                    self.ending = f"{what}did not end within {limit:g} s"
                    return False
                time.sleep(0.05)

    def _take(self, event: dict[str, Any]) -> bool:
        """Act on one event; whether it was the last."""
        match event["event"]:
            case "doing":
                self.doing = event["what"]
                self.watch(self.doing, None)
            case "ready":
                self.checked.changed = event["changed"]
                self.checked.package = event["package"]
                self.watch("", event["n_rules"])
            case "cannot":
                rule = Rule(**{**asdict(_SETTING_UP), "remedy": event["remedy"] or _SETTING_UP.remedy})
                self.checked.outcomes.append(Outcome(rule, "failed", event["found"], 0.0, event["trace"]))
                self.checked.user_error = event["user_error"]
            case "begin":
                self.rule = Rule(**event["rule"])
                self.watch(self.rule.name, None)
            case "outcome":
                values = event["outcome"]
                values["rule"] = Rule(**values["rule"])
                self.checked.outcomes.append(Outcome(**values))
                self.rule = None
            case "done":
                return True
        return False

    def _request(self, events: Path) -> dict[str, Any]:
        return {
            "kind": self.target.kind,
            "choice": self.target.choice,
            "settings": dict(self.target.settings),
            "only": list(self.limits.only),
            "connect": self.limits.connect,
            "known": [asdict(outcome) for outcome in self.checked.outcomes],
            "events": str(events),
        }

    def _environment(self, folder: Path) -> dict[str, str]:
        """Nothing from the Hub; without a device, no calibration folder is made at the user's place."""
        mine = {} if self.limits.connect else {"HF_LEROBOT_CALIBRATION": str(folder / "calibration")}
        return {"HF_HUB_OFFLINE": "1", **os.environ, **mine}


def _whole_lines(source: IO[str]) -> Sequence[dict[str, Any]]:
    """The events that have arrived completely; a half-written line is left for the next time."""
    found: list[dict[str, Any]] = []
    while True:
        place = source.tell()
        line = source.readline()
        if not line.endswith("\n"):
            source.seek(place)
            return found
        found.append(json.loads(line))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the child and whatever it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _status(process: "subprocess.Popen[bytes]") -> str:
    code = process.returncode
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"status {code}"


def _last_line(said: Path) -> str:
    lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f" ({lines[-1].strip()[:300]})" if lines else ""


# What a distribution registers


@dataclass(frozen=True)
class Found:
    """What an installed distribution offers to check.

    Args:
        name (`str`), version (`str`): The distribution.
        targets (`list[Target]`): Its registered choices that a contract exists for.
        others (`list[str]`): Its registered choices that no contract exists for, such as `optimizer adam_x`.
        problems (`list[Outcome]`): Why LeRobot does not load it properly; empty when it does.
    """

    name: str
    version: str
    targets: list[Target] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    problems: list[Outcome] = field(default_factory=list)


def targets_of(name: str) -> Found:
    """Import the plugins in a child process and see what one of them registers.

    Args:
        name (`str`): An installed distribution; hyphens and underscores are the same.

    Raises:
        CommandError: It is not installed.
    """
    from lerobot_ext.doctor.plugins import examine
    from lerobot_ext.doctor.survey import survey, underscored

    plugins = {underscored(plugin.name): plugin for plugin in survey()}
    plugin = plugins.get(underscored(name))
    if plugin is None:
        return _not_a_plugin(name, [found.name for found in plugins.values()])
    examination = examine()
    row = next(row for row in examination.rows if row.name == plugin.name)
    rule = Rule("check/is-loaded", "LeRobot, or the core's loader, imports the plugin.", "", (), "")
    problems = [
        Outcome(replace(rule, remedy=finding.remedy), "failed", finding.message)
        for finding in examination.findings
        if finding.subject in (plugin.name, "lerobot") and finding.level == "problem"
    ]
    found = Found(plugin.name, plugin.version, problems=problems)
    for entry in row.registers:
        kind, _, choice = entry.rpartition(" ")
        if kind in BY_NAME and has_contract(BY_NAME[kind]):
            found.targets.append(Target(kind, choice))
        elif kind != "command":
            found.others.append(entry)
    if found.targets and has_contract(BY_NAME["distribution"]):
        found.targets.insert(0, Target("distribution", plugin.name))
    return found


def _not_a_plugin(name: str, plugins: Sequence[str]) -> Found:
    try:
        return Found(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        known = ", ".join(sorted(plugins)) or "none"
        raise CommandError(
            f"no distribution {name!r} is installed", f"plugins installed here: {known}"
        ) from None
