# SPDX-License-Identifier: Apache-2.0
"""Writes the list of all rules into a Markdown page: `python -m lerobot_ext.testing.rule_list PAGE`."""

import sys
from pathlib import Path

from lerobot_ext.testing.check_kinds import KINDS, contract_class

BEGIN, END = "<!-- rules: begin -->", "<!-- rules: end -->"


def rule_list() -> str:
    """Every contract with its rules, in the order in which they are tried, as Markdown."""
    parts = []
    for kind in KINDS:
        contract = contract_class(kind)
        rules = contract.rules()
        lines = [f"- `{rule.name}` {rule.statement}" for rule in rules]
        parts.append(f"### `{kind.contract}`: {len(rules)} rules\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def with_rules(page: str) -> str:
    """A page with the list between its two marks brought up to date.

    Raises:
        ValueError: The page has not both marks.
    """
    head, found_begin, rest = page.partition(BEGIN)
    _, found_end, tail = rest.partition(END)
    if not (found_begin and found_end):
        raise ValueError(f"the page needs the marks {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{rule_list()}\n\n{END}{tail}"


def main(arguments: list[str]) -> int:
    """Bring the page named on the command line up to date."""
    [page] = (Path(argument) for argument in arguments)
    page.write_text(with_rules(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
