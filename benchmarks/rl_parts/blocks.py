# SPDX-License-Identifier: Apache-2.0
"""The blocks of results in the policies' READMEs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

POLICIES = Path(__file__).parents[2] / "policies"
IMAGES = Path(__file__).parents[2] / "docs" / "images"
LAPO = POLICIES / "lerobot_policy_lapo" / "README.md"
Q_CHUNKING = POLICIES / "lerobot_policy_q_chunking" / "README.md"


def markers(name: str) -> tuple[str, str]:
    """The lines that a block stands between."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def read_block(readme: Path, name: str) -> str:
    """What stands between the markers.

    Raises:
        SystemExit: The file has not both of them.
    """
    return _parts(readme, name)[1]


def write_block(readme: Path, name: str, text: str) -> None:
    """Replace what stands between the markers.

    Raises:
        SystemExit: The file has not both of them.
    """
    before, _, after = _parts(readme, name)
    begin, end = markers(name)
    readme.write_text(f"{before}{begin}\n\n{text.rstrip()}\n\n{end}{after}", encoding="utf-8")


def _parts(readme: Path, name: str) -> tuple[str, str, str]:
    begin, end = markers(name)
    before, found, rest = readme.read_text(encoding="utf-8").partition(begin)
    inside, ended, after = rest.partition(end)
    if not found or not ended:
        raise SystemExit(f"{readme} has no block between {begin} and {end}; put both lines where it belongs.")
    return before, inside, after


def days(measured: Iterable[str]) -> str:
    """The day or days of results, from the times when they were measured."""
    found = sorted({time[:10] for time in measured})
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"
