# SPDX-License-Identifier: Apache-2.0
"""The process in which `lerobot-ext check` tries one choice: LeRobot's discovery, then the contract's rules.

A plugin may raise, print, hang or end the process. So each step is noted as one JSON line in a file, and the
parent (`check_run`) knows from the last line what was going on.
"""

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any

from lerobot_ext.cli.command import CommandError
from lerobot_ext.plugins import describe_error
from lerobot_ext.testing.check_kinds import BY_NAME, Kind, contract_class, registered_class
from lerobot_ext.testing.contract import Contract, Outcome, Rule

Note = Callable[..., None]


def main(arguments: list[str]) -> int:
    """Do what the request (a JSON file) asks for, and write events to the file it names."""
    request = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    with open(request["events"], "a", encoding="utf-8") as sink:

        def note(event: str, **values: Any) -> None:
            sink.write(json.dumps({"event": event, **values}) + "\n")
            sink.flush()

        _try(request, note)
        note("done")
    return 0


def _try(request: dict[str, Any], note: Note) -> None:
    kind = BY_NAME[request["kind"]]
    note("doing", what="importing LeRobot and the plugins")
    _discover(kind)
    note("doing", what="making the contract")
    try:
        contract = contract_class(kind).for_choice(request["choice"], request["settings"])
        contract.may_connect = request["connect"]
        rules = selected_rules(contract, request["only"])
    except CommandError as error:
        note("cannot", found=str(error), remedy=error.remedy, trace="", user_error=True)
        return
    except Exception as error:  # noqa: BLE001 - the plugin boundary
        note("cannot", found=describe_error(error), remedy="", trace=traceback.format_exc(), user_error=False)
        return
    registered = registered_class(kind, request["choice"])
    package = registered.__module__.partition(".")[0] if registered is not None else ""
    note("ready", n_rules=len(rules), changed=dict(contract.changed), package=package)
    known = {outcome["rule"]["name"]: outcome for outcome in request["known"]}
    by_name = {rule.name: rule for rule in contract.rules()}
    for name, outcome in known.items():
        contract.settle(Outcome(**{**outcome, "rule": by_name[name]}))
    subject = contract()
    for rule in rules:
        if rule.name in known:
            continue
        note("begin", rule=asdict(rule))
        note("outcome", outcome=asdict(subject.judge(rule.test)))


def selected_rules(contract: type[Contract], only: Iterable[str]) -> list[Rule]:
    """The rules that match a pattern of `only`, and those they build on, in order; all without patterns.

    Args:
        contract (`type[Contract]`): The contract.
        only (`Iterable[str]`): Names such as `policy/loss-is-finite`, `loss-is-finite` or `policy/loss*`.
    """
    patterns = list(only)
    rules = contract.rules()
    if not patterns:
        return rules
    wanted = {rule.name for rule in rules if matches(rule.name, patterns)}
    for rule in reversed(rules):
        if rule.name in wanted:
            wanted |= {f"{contract.subject}/{need}" for need in rule.needs}
    return [rule for rule in rules if rule.name in wanted]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a rule is meant by one of the patterns, with or without the part before the slash."""
    short = name.partition("/")[2]
    return any(fnmatchcase(name, p) or fnmatchcase(short, p) for p in patterns)


def _discover(kind: Kind) -> None:
    """Import what a stock command line imports before and during its discovery of plugins."""
    for module in kind.stock:
        # Where an extra is missing, that command line cannot run either: its choices are then not there.
        with contextlib.suppress(ImportError):
            import_module(module)
    from lerobot.utils.import_utils import register_third_party_plugins

    from lerobot_ext.plugins import load_all

    register_third_party_plugins()
    load_all()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
