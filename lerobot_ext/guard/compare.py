# SPDX-License-Identifier: Apache-2.0
"""What changed between two environments, told so that one can act on it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from lerobot_ext.guard.facts import Fact, Findings


@dataclass(frozen=True)
class Change:
    """One fact that is not what it was.

    Args:
        subject (`str`): What it is about.
        rule (`str`): What should hold.
        was (`str`): Status in the baseline; `unknown` when it was not tried there.
        now (`str`): Status with the other LeRobot; `gone` when it could not be tried there.
        found (`str`): What was found.
        remedy (`str`): What to do.
    """

    subject: str
    rule: str
    was: str
    now: str
    found: str
    remedy: str


@dataclass
class Comparison:
    """Everything that a report tells.

    Args:
        broke (`list[Change]`): Held before and does not now: the reason for exit code 1.
        follows (`list[Change]`): Could not be tried because of something in `broke`.
        broken_in_both (`list[Change]`): Did not hold before either.
        mended (`list[Change]`): Holds now and did not before.
        no_longer_tried (`list[Change]`): Held before; now it does not apply.
        holds (`int`): How many hold in both.
        versions (`dict[str, tuple[str, str]]`): Packages of the other environment whose version differs, or
            which the baseline has not: version before, or nothing, and now.
    """

    broke: list[Change] = field(default_factory=list)
    follows: list[Change] = field(default_factory=list)
    broken_in_both: list[Change] = field(default_factory=list)
    mended: list[Change] = field(default_factory=list)
    no_longer_tried: list[Change] = field(default_factory=list)
    holds: int = 0
    versions: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing broke."""
        return not self.broke


def compare(before: Findings, after: Findings) -> Comparison:
    """Compare a baseline with another environment.

    Args:
        before (`Findings`): The baseline.
        after (`Findings`): The environment with the other LeRobot.
    """
    found = Comparison(versions=_changed_versions(before, after))
    old, new = before.by_key(), after.by_key()
    silent = {fact.origin for fact in after.facts if fact.status == "broken"}
    for key in [*old, *(key for key in new if key not in old)]:
        _sort_in(found, old.get(key), new.get(key), silent)
    return found


def _sort_in(found: Comparison, old: Fact | None, new: Fact | None, silent: set[str]) -> None:
    """Put one fact where it belongs."""
    was = old.status if old else "unknown"
    now = new.status if new else "gone"
    latest = new or old
    assert latest is not None
    change = Change(latest.subject, latest.rule, was, now, latest.found, latest.remedy)
    if now == "broken":
        (found.broken_in_both if was == "broken" else found.broke).append(change)
    elif now == "holds":
        if was == "broken":
            found.mended.append(change)
        elif was == "holds":
            found.holds += 1
    elif was == "holds":
        if now == "skipped":
            found.no_longer_tried.append(change)
        elif now == "not reached" or latest.origin in silent or "core" in silent:
            found.follows.append(change)
        else:
            # Nothing that broke explains why it is not there any more.
            found.broke.append(change)


def _changed_versions(before: Findings, after: Findings) -> dict[str, tuple[str, str]]:
    return {
        name: (before.versions.get(name, ""), version)
        for name, version in sorted(after.versions.items(), key=lambda item: item[0].lower())
        if before.versions.get(name, "") != version
    }


def summary(comparison: Comparison, before: str, after: str) -> str:
    """One line: what another LeRobot would mean.

    Args:
        comparison (`Comparison`): The comparison.
        before (`str`): LeRobot's version in the baseline.
        after (`str`): LeRobot's version in the other environment.
    """
    return f"LeRobot {after} against {before}: " + ", ".join(_parts(comparison))


def _parts(comparison: Comparison) -> Iterator[str]:
    n = len(comparison.broke)
    yield f"{n} {'thing breaks' if n == 1 else 'things break'}" if n else "nothing breaks"
    yield f"{comparison.holds} hold"
    for count, word in (
        (len(comparison.follows), "could not be tried for that reason"),
        (len(comparison.mended), "mended"),
        (len(comparison.broken_in_both), "broken in both"),
        (len(comparison.no_longer_tried), "no longer apply"),
    ):
        if count:
            yield f"{count} {word}"
