# SPDX-License-Identifier: Apache-2.0
"""What can be found out about the plugins in one environment, as facts by which two can be compared.

The interpreter is given by path, so the environment may hold another LeRobot than this one. What runs inside
is the core's own: `doctor`, `check` and the trial of its patches.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

_DOCTOR_LIMIT_S: Final = 600.0
_CHECK_LIMIT_S: Final = 3600.0
# The guard installs past our own window on purpose; that it does is no discovery.
_EXPECTED: Final = ("window",)

Status = Literal["holds", "broken", "skipped", "not reached"]
_OF_CHECK: Final[dict[str, Status]] = {
    "passed": "holds",
    "failed": "broken",
    "skipped": "skipped",
    "not reached": "not reached",
}


@dataclass(frozen=True)
class Fact:
    """One thing found out.

    Args:
        origin (`str`): Distribution it belongs to, or `core`.
        subject (`str`): What it is about: a distribution, `policy act`, `core`.
        rule (`str`): What should hold, a stable word.
        status (`str`): `holds`, `broken`, `skipped` (does not apply) or `not reached`.
        found (`str`): What was found instead, or why it does not apply.
        remedy (`str`): What to do when it is broken.
    """

    origin: str
    subject: str
    rule: str
    status: Status
    found: str = ""
    remedy: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What it is compared by."""
        return self.subject, self.rule


@dataclass
class Findings:
    """What was found out in one environment.

    Args:
        versions (`dict[str, str]`): Versions of LeRobot, Python and what else matters, by name.
        facts (`list[Fact]`): In the order they were found.
    """

    versions: dict[str, str] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)

    def by_key(self) -> dict[tuple[str, str], Fact]:
        """The facts by subject and rule."""
        return {fact.key: fact for fact in self.facts}


Watcher = Callable[[str], None]


def collect(python: Path, plugins: Sequence[str], rule_s: float, watch: Watcher) -> Findings:
    """Find out everything about `plugins` in the environment of `python`.

    Args:
        python (`Path`): Its interpreter.
        plugins (`Sequence[str]`): Distributions to check.
        rule_s (`float`): How long one rule of `check` may take.
        watch (`Watcher`): Told what is going on.
    """
    with tempfile.TemporaryDirectory(prefix="lerobot_ext_guard_", ignore_cleanup_errors=True) as home:
        inside = _Inside(python, Path(home))
        watch("versions")
        findings = Findings(versions=_versions(inside))
        watch("doctor")
        findings.facts += _from_doctor(inside, plugins)
        watch("the core's changes to LeRobot")
        findings.facts += _from_patches(inside)
        for plugin in plugins:
            watch(f"check {plugin}")
            findings.facts += _from_check(inside, plugin, rule_s)
    return findings


class _Inside:
    """Runs Python in another environment, away from this one's paths and the user's files."""

    def __init__(self, python: Path, home: Path) -> None:
        self.python = python
        self.home = home

    def run(self, *words: str, limit_s: float) -> "tuple[Any, str]":
        """Run Python; what it printed as JSON, or None and why there is none."""
        unwanted = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HF_LEROBOT_CALIBRATION")
        env = {key: value for key, value in os.environ.items() if key not in unwanted}
        env |= {"HF_HUB_OFFLINE": "1", "HF_LEROBOT_HOME": str(self.home / "lerobot")}
        try:
            ran = subprocess.run(
                [str(self.python), *words],
                env=env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit_s,
            )
        except subprocess.TimeoutExpired:
            return None, f"it did not end within {limit_s:.0f} s"
        except OSError as error:
            return None, str(error)
        try:
            return json.loads(ran.stdout[max(0, _start_of_json(ran.stdout)) :]), ""
        except ValueError:
            return None, f"it ended with status {ran.returncode}" + _reason(ran.stderr)


def _reason(said: str) -> str:
    """Why a command failed, from its stderr: our commands have one line for it, others say it last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("lerobot-ext: ")]
    chosen = (ours or lines)[-1:]
    return f": {chosen[0].removeprefix('lerobot-ext: ')[:400]}" if chosen else ""


def _start_of_json(text: str) -> int:
    """Where the JSON value begins: a plugin may have printed something before it."""
    if text.startswith(("{", "[")):
        return 0
    return max(text.find("\n{\n"), text.find("\n["), text.find('\n{"')) + 1


_ASK_VERSIONS = """
import importlib.metadata as m, json, platform
names = {d.metadata["Name"]: d.version for d in m.distributions() if d.metadata["Name"]}
print(json.dumps({"python": platform.python_version(), **dict(sorted(names.items()))}))
"""


def _versions(inside: _Inside) -> dict[str, str]:
    """Versions of Python and of everything installed there."""
    versions, why = inside.run("-c", _ASK_VERSIONS, limit_s=_DOCTOR_LIMIT_S)
    if versions is None:
        raise RuntimeError(f"{inside.python} cannot be asked for its packages: {why}")
    return {str(name): str(version) for name, version in versions.items()}


_ASK_DOCTOR = """
import dataclasses, json
from lerobot_ext.doctor.plugins import examine
print(json.dumps(dataclasses.asdict(examine())))
"""


def _from_doctor(inside: _Inside, plugins: Sequence[str]) -> Iterator[Fact]:
    """Whether LeRobot loads the plugins, and all that they register."""
    report, why = inside.run("-c", _ASK_DOCTOR, limit_s=_DOCTOR_LIMIT_S)
    yield _ran("core", "doctor-runs", report, why)
    if report is None:
        return
    findings = [finding for finding in report["findings"] if finding["level"] == "problem"]
    wanted = {*plugins, "lerobot", "lerobot_ext"}
    for name in sorted(wanted):
        mine = [f for f in findings if f["subject"] == name and f["kind"] not in _EXPECTED]
        if not mine:
            yield Fact(name, name, "is-loaded", "holds")
        else:
            found = "; ".join(f["message"] for f in mine)
            yield Fact(name, name, "is-loaded", "broken", found, mine[0]["remedy"])
    for row in report["rows"]:
        if row["name"] in plugins:  # what the core registers depends on who uses it
            for registered in row["registers"]:
                yield Fact(row["name"], row["name"], f"registers {registered}", "holds")


def _from_patches(inside: _Inside) -> Iterator[Fact]:
    """Whether the core's own changes to LeRobot would work."""
    outcomes, why = inside.run("-m", "lerobot_ext.guard.patches", limit_s=_DOCTOR_LIMIT_S)
    yield _ran("core", "patches-can-be-tried", outcomes, why)
    for outcome in outcomes or ():
        rule = outcome["rule"]
        status = _OF_CHECK[outcome["status"]]
        yield Fact("core", "core", rule["name"], status, outcome["found"], rule["remedy"])


def _from_check(inside: _Inside, plugin: str, rule_s: float) -> Iterator[Fact]:
    """What the conformance kit says about one distribution."""
    report, why = inside.run(
        *("-m", "lerobot_ext.cli.main", "check", plugin, "--json", "--timeout", f"{rule_s:g}"),
        limit_s=_CHECK_LIMIT_S,
    )
    yield _ran(plugin, "can-be-checked", report, why)
    for checked in (report or {}).get("checks", ()):
        subject = f"{checked['kind']} {checked['choice']}"
        for outcome in checked["outcomes"]:
            found, remedy = _judged(outcome)
            yield Fact(plugin, subject, outcome["rule"], _OF_CHECK[outcome["status"]], found, remedy)


def _judged(outcome: dict[str, Any]) -> tuple[str, str]:
    """What was found and what to do; the plugin's author is not sent after what the kit itself lacks.

    The kit imports from LeRobot too. Where that fails in its own code, its remedies are about something else.
    """
    frames = re.findall(r'File "([^"]+)", line', outcome["trace"])
    mine = bool(frames) and f"lerobot_ext{os.sep}testing{os.sep}" in frames[-1]
    if mine and re.match(r"(ImportError|ModuleNotFoundError): .*lerobot", outcome["found"]):
        return (
            f"the kit cannot try it with this LeRobot: {outcome['found']}",
            "update lerobot_ext: its kit is made for another LeRobot",
        )
    return outcome["found"], outcome["remedy"]


def _ran(origin: str, rule: str, report: Any, why: str) -> Fact:
    """Whether one of the commands gave a report at all."""
    if report is not None:
        return Fact(origin, origin, rule, "holds")
    return Fact(
        origin, origin, rule, "broken", why, "run the command by hand in an environment with this LeRobot"
    )
