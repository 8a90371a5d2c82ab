# SPDX-License-Identifier: Apache-2.0
"""The guard's findings as a table, as JSON and as Markdown for a CI's summary page."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lerobot_ext.guard.compare import Change, Comparison, summary
from lerobot_ext.guard.facts import Findings

if TYPE_CHECKING:
    from rich.console import Console

_NOTABLE: Final = (
    "lerobot",
    "python",
    "torch",
    "numpy",
    "draccus",
    "huggingface_hub",
    "datasets",
    "gymnasium",
)


@dataclass
class Report:
    """Everything that is told.

    Args:
        against (`str`): What the user asked for.
        plugins (`list[str]`): What was checked.
        before (`Findings`): The baseline.
        after (`Findings`): With the other LeRobot.
        comparison (`Comparison`): The two compared.
        notes (`list[str]`): What else to know.
    """

    against: str
    plugins: list[str]
    before: Findings
    after: Findings
    comparison: Comparison
    notes: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """One line."""
        old, new = (findings.versions.get("lerobot", "none") for findings in (self.before, self.after))
        return summary(self.comparison, old, new)


def as_json(report: Report) -> dict[str, Any]:
    """All of it, for scripts."""
    return {
        "ok": report.comparison.ok,
        "summary": report.summary,
        "against": report.against,
        "plugins": report.plugins,
        "notes": report.notes,
        **asdict(report.comparison),
        "baseline": asdict(report.before),
        "target": asdict(report.after),
    }


def show(out: "Console", report: Report) -> None:
    """Print it for people."""
    from lerobot_ext.cli.look import table

    for title, changes in _sections(report.comparison):
        rows = [(_about(change), _moved(change), _text(change)) for change in changes]
        out.print(table(title, ["what", "was -> now", "found"], rows))
    versions = _notable(report.comparison)
    if versions:
        out.print("other versions: " + ", ".join(versions), markup=False)
    for note in report.notes:
        out.print(f"note: {note}", markup=False)
    out.print(report.summary, markup=False)


def as_markdown(report: Report) -> str:
    """For a file, or a CI's summary page."""
    lines = [f"## {report.summary}", "", f"Plugins: {', '.join(report.plugins)}.", ""]
    for title, changes in _sections(report.comparison):
        lines += [f"### {title}", "", "| what | was | now | found | remedy |", "|---|---|---|---|---|"]
        lines += [
            "| " + " | ".join(map(_cell, (_about(c), c.was, c.now, c.found, c.remedy))) + " |"
            for c in changes
        ]
        lines.append("")
    if report.comparison.versions:
        lines += ["### Versions that differ", "", "| package | here | there |", "|---|---|---|"]
        lines += [
            f"| {_cell(name)} | {_cell(old)} | {_cell(new)} |"
            for name, (old, new) in report.comparison.versions.items()
        ]
        lines.append("")
    lines += [f"- {_cell(note)}" for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"


def _sections(comparison: Comparison) -> Iterator[tuple[str, Sequence[Change]]]:
    """The lists that hold anything; what only follows from them is counted, not listed."""
    named = (
        ("Broke", comparison.broke),
        ("Broken in both", comparison.broken_in_both),
        ("Mended", comparison.mended),
        ("No longer applies", comparison.no_longer_tried),
    )
    return ((title, changes) for title, changes in named if changes)


def _about(change: Change) -> str:
    return f"{change.subject}: {change.rule}"


def _moved(change: Change) -> str:
    return f"{change.was} -> {change.now}"


def _text(change: Change) -> str:
    return change.found + (f"\nremedy: {change.remedy}" if change.remedy and change.now == "broken" else "")


def _notable(comparison: Comparison) -> list[str]:
    return [
        f"{name} {old or 'none'} -> {new or 'none'}"
        for name, (old, new) in comparison.versions.items()
        if name in _NOTABLE
    ]


def _cell(text: str) -> str:
    """`text` in one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|") or "-"
