# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a source, in one form for the screen and for `--json`."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from lerobot_ext.cli.command import CommandError

# Findings that may be how somebody's data is meant; `--allow CODE` lets one pass.
ALLOWABLE = {
    "terminals": "no terminal ever fires: the whole file is one episode",
    "joint-width": "joints and actions differ in width",
    "repeated": "most pictures are copies of the one before",
    "blank": "pictures of one colour",
}


@dataclass(frozen=True)
class Problem:
    """One thing that keeps a file from being converted.

    Args:
        code (`str`): Kind of problem; those of `ALLOWABLE` can be let pass.
        where (`str`): File and path in it.
        text (`str`): What was expected and what is there.
        remedy (`str`): What to do about it.
    """

    code: str
    where: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        """One line."""
        return f"{self.where}: {self.text}" + (f" -> {self.remedy}" if self.remedy else "")


class SourceError(CommandError):
    """A source that cannot be converted; `problems` has everything that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        super().__init__(f"{first.where}: {first.text}{more}", first.remedy)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the path that is most like `name`, or nothing."""
    known = list(known)
    leaf = name.rsplit("/", 1)[-1]
    by_leaf = {path.rsplit("/", 1)[-1]: path for path in known}
    found = get_close_matches(name, known, n=1, cutoff=0.75)
    found = found or [by_leaf[match] for match in get_close_matches(leaf, by_leaf, n=1, cutoff=0.5)]
    return f"; did you mean `{found[0]}`?" if found else ""
