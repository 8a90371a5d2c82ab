# SPDX-License-Identifier: Apache-2.0
"""How `lerobot-ext check` shows what it found: tables, versions, JSON."""

import platform
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from lerobot_ext.doctor.survey import survey, underscored
from lerobot_ext.testing.check_run import Checked, Found
from lerobot_ext.testing.contract import Outcome

if TYPE_CHECKING:
    from rich.table import Table

_COLOURS = {"passed": "green", "failed": "bold red", "skipped": "dim", "not reached": "yellow"}


def outcome_table(title: str, outcomes: Sequence[Outcome]) -> "Table":
    """One row a rule; a broken one says what holds it and what to do."""
    from rich.text import Text

    from lerobot_ext.cli.look import table

    rows = [
        (
            outcome.rule.name,
            Text(outcome.status, style=_COLOURS[outcome.status]),
            f"{outcome.seconds:.1f} s",
            _what_was_found(outcome),
        )
        for outcome in outcomes
    ]
    return table(title, ["rule", "status", "took", "found"], rows)


def _what_was_found(outcome: Outcome) -> str:
    if outcome.status == "not reached":
        return f"waits for {outcome.found}"
    if outcome.status != "failed":
        return outcome.found
    return f"{outcome.rule.statement}\nfound: {outcome.found}\nremedy: {outcome.rule.remedy}"


def owner(checked: Checked, found: Found | None) -> str:
    """The distribution that what was checked belongs to; empty when unknown."""
    if found is not None:
        return found.name
    for plugin in survey():
        if checked.package and checked.package in (underscored(plugin.name), *plugin.packages):
            return plugin.name
    return checked.package


def versions(found: Found | None, checked: Sequence[Checked]) -> dict[str, Any]:
    """Versions of Python, LeRobot, torch, the core, and under `plugins` of what was checked."""
    names = {owner(one, found) for one in checked} | ({found.name} if found else set())
    plugins = {name: version for name in sorted(names) if name and (version := _version(name))}
    return {
        "python": platform.python_version(),
        "lerobot": _version("lerobot") or "not installed",
        "torch": _version("torch") or "not installed",
        "lerobot_ext": _version("lerobot_ext") or "not installed",
        "plugins": plugins,
    }


def as_json(found: Found | None, checked: Sequence[Checked]) -> dict[str, Any]:
    """All that was found, for scripts."""
    return {
        "versions": versions(found, checked),
        "distribution": found.name if found else None,
        "problems": [_outcome(outcome) for outcome in found.problems] if found else [],
        "without_contract": found.others if found else [],
        "checks": [
            {
                "kind": one.target.kind,
                "choice": one.target.choice,
                "distribution": owner(one, found),
                "settings": dict(one.target.settings),
                "changed": one.changed,
                "counts": one.counts,
                "seconds": round(one.seconds, 3),
                "outcomes": [_outcome(outcome) for outcome in one.outcomes],
            }
            for one in checked
        ],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "rule": outcome.rule.name,
        "status": outcome.status,
        "statement": outcome.rule.statement,
        "found": outcome.found,
        "remedy": outcome.rule.remedy,
        "seconds": round(outcome.seconds, 3),
        "trace": outcome.trace,
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
