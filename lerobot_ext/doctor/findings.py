# SPDX-License-Identifier: Apache-2.0
"""What every check of the doctor hands back: findings with a remedy, in a section about one thing."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console

Level = Literal["problem", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing to know about one subject.

    Args:
        level (`str`): `problem` makes the doctor exit with 1, a `note` does not.
        kind (`str`): What sort of thing, a stable word for scripts; `docs/doctor.md` lists all.
        subject (`str`): Whom it concerns: a distribution, a file, a feature, a port, a joint.
        message (`str`): What is the matter, with the value, one sentence.
        remedy (`str`): What to do, an exact command where there is one.
        fix (`str`, *optional*): Name of the `Fix` that `--fix` would carry out; empty when there is none.
    """

    level: Level
    kind: str
    subject: str
    message: str
    remedy: str
    fix: str = ""


def problem(kind: str, subject: str, message: str, remedy: str, fix: str = "") -> Finding:
    """A finding that makes the doctor exit with 1."""
    return Finding("problem", kind, subject, message, remedy, fix)


def note(kind: str, subject: str, message: str, remedy: str, fix: str = "") -> Finding:
    """A finding worth knowing that breaks nothing."""
    return Finding("note", kind, subject, message, remedy, fix)


@dataclass(frozen=True)
class Fix:
    """Something that the doctor can safely do itself, and only when `--fix` asks for it.

    Args:
        name (`str`): A stable word; the findings that it mends name it.
        what (`str`): What it would do, with paths, one sentence in the infinitive.
        apply (`Callable`): Does it and returns what was done, with the path of the backup or the new folder.
            A `CommandError` becomes one clear line; nothing is changed then.
    """

    name: str
    what: str
    apply: Callable[[], str]


@dataclass(frozen=True)
class Section:
    """What one check found out about one thing.

    Args:
        check (`str`): Name of the check.
        subject (`str`): What was examined: a folder, a port, `this environment`.
        findings (`list[Finding]`): What is worth knowing; empty when all is well.
        facts (`dict`): What was measured, as plain values for `--json`.
        lines (`list[str]`): The same for people, a few lines at most.
        show (`Callable`, *optional*): Prints instead of `lines`, for tables.
        fixes (`list[Fix]`): What `--fix` can do about it.
    """

    check: str
    subject: str
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    show: Callable[["Console"], None] | None = None
    fixes: list[Fix] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no problem; notes are allowed."""
        return is_ok(self.findings)


def is_ok(findings: list[Finding]) -> bool:
    """Whether there is no problem; notes are allowed."""
    return all(finding.level != "problem" for finding in findings)


def problems_first(findings: list[Finding]) -> list[Finding]:
    """The same findings, problems first, otherwise in their order; repeated ones once."""
    return sorted(dict.fromkeys(findings), key=lambda finding: finding.level != "problem")


def as_json(sections: list[Section], fixed: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The one schema of `lerobot-ext doctor --json`, whatever was examined.

    Args:
        sections (`list[Section]`): What was examined.
        fixed (`list[dict]`, *optional*): What `--fix` did: `fix`, `subject`, `done`, `what`.
    """
    return {
        "ok": all(section.ok for section in sections),
        "examined": [
            {"check": section.check, "subject": section.subject, "ok": section.ok, **section.facts}
            for section in sections
        ],
        "findings": [
            {"check": section.check, **asdict(finding)}
            for section in sections
            for finding in section.findings
        ],
        "fixes": fixed or [],
    }
