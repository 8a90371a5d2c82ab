# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext check`: does a plugin keep the rules that LeRobot's own code relies on?"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option
from lerobot_ext.testing.check_kinds import KINDS, Kind

if TYPE_CHECKING:
    from rich.console import Console

    from lerobot_ext.testing.check_run import Checked, Found, Limits, Target

_CHOICES = tuple(kind for kind in KINDS if kind.option.startswith("--"))
_RULE_LIMIT_S = 300.0


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "distribution", metavar="DIST", nargs="?", help="an installed plugin: check all that it registers"
    )
    for kind in _CHOICES:
        parser.add_argument(
            kind.option,
            dest=_attribute(kind),
            metavar="NAME",
            action="append",
            default=[],
            help=f"check one registered {kind.name}, LeRobot's own too; may be repeated",
        )
    parser.add_argument(
        "--set",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="set a field of what is checked; begin with its name when several are: koch.obs=pixels",
    )
    parser.add_argument(
        "--connect",
        action="store_true",
        help="also try the rules that need a device; a robot MOVES a little, so keep clear of it",
    )
    parser.add_argument(
        "--only",
        metavar="RULE",
        action="append",
        default=[],
        help="try only these rules and those they build on: policy/loss-is-finite, 'policy/loss*'",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=_RULE_LIMIT_S,
        help="how long one rule may take (%(default)g)",
    )
    parser.add_argument("--trace", action="store_true", help="print the traceback of each failure")
    parser.add_argument("--rules", action="store_true", help="list all rules and leave")
    add_json_option(parser)


def _attribute(kind: Kind) -> str:
    return f"choice_{kind.name}"


def _run(args: Namespace) -> int:
    """Check what was named; 1 when a rule is broken, 2 when a name or a setting is wrong."""
    if args.rules:
        return _list_rules(args)
    if args.timeout <= 0:
        raise CommandError(f"--timeout {args.timeout:g} leaves no time", "give seconds, such as 120")
    from lerobot_ext.testing.check_run import Limits

    named = [(kind, name) for kind in _CHOICES for name in getattr(args, _attribute(kind))]
    _refuse_senseless(args, named)
    found, targets = _targets(args, named)
    limits = Limits(only=args.only, rule_s=args.timeout, connect=args.connect)
    checked = _check_all(targets, limits)
    failed = bool(found and found.problems) or any(one.counts["failed"] for one in checked)
    if args.json:
        from lerobot_ext.cli.look import write_json
        from lerobot_ext.testing.check_report import as_json

        write_json({"ok": not failed, **as_json(found, checked)})
    else:
        _show(found, checked, trace=args.trace)
    if any(one.user_error for one in checked):
        return 2
    return 1 if failed else 0


def _refuse_senseless(args: Namespace, named: list[tuple[Kind, str]]) -> None:
    options = ", ".join(f"{kind.option}=…" for kind in _CHOICES)
    if args.distribution and named:
        raise CommandError(
            f"{args.distribution!r} and {named[0][0].option}={named[0][1]} are both named",
            "check a distribution or single choices, not both",
        )
    if not args.distribution and not named:
        raise CommandError("nothing to check is named", f"give an installed distribution, or {options}")


def _targets(args: Namespace, named: list[tuple[Kind, str]]) -> "tuple[Found | None, list[Target]]":
    """What to check, with its settings."""
    from dataclasses import replace

    from lerobot_ext.cli.look import console
    from lerobot_ext.testing.check_kinds import has_contract
    from lerobot_ext.testing.check_run import Target, targets_of

    found = None
    if args.distribution:
        with console(stderr=True).status("Importing LeRobot and every plugin in a process of its own …"):
            found = targets_of(args.distribution)
        targets = found.targets
        if not targets and not found.problems:
            raise CommandError(
                f"{found.name} {found.version} registers nothing that there is a contract for"
                + (f" (only {', '.join(found.others)})" if found.others else ""),
                "`lerobot-ext doctor` says whether LeRobot loads it, `lerobot-ext plugins` what it registers",
            )
    else:
        without = [kind.name for kind, _ in named if not has_contract(kind)]
        if without:
            raise CommandError(f"there is no contract for a {without[0]} yet", "update lerobot_ext")
        targets = [Target(kind.name, name) for kind, name in named]
    if args.only:
        targets = [target for target in targets if _has_rule(target, args.only)]
        if not targets:
            raise CommandError(
                f"no rule is called {' or '.join(args.only)}", "`lerobot-ext check --rules` lists them"
            )
    # A distribution has no fields; what it registers has.
    settings = _settings(args.set, [target.choice for target in targets if target.kind != "distribution"])
    return found, [replace(t, settings=settings.get(t.choice, {})) for t in targets]


def _has_rule(target: "Target", patterns: list[str]) -> bool:
    """Whether the contract for `target` has such a rule; a process that tries none would take seconds."""
    from lerobot_ext.testing.check_child import matches
    from lerobot_ext.testing.check_kinds import BY_NAME, contract_class

    return any(matches(rule.name, patterns) for rule in contract_class(BY_NAME[target.kind]).rules())


def _settings(texts: Iterable[str], choices: list[str]) -> dict[str, dict[str, str]]:
    """`--set` by choice: `koch.obs=pixels` is for `koch` only, `obs=pixels` for all.

    Raises:
        CommandError: There is no `=`, or one field is set twice.
    """
    settings: dict[str, dict[str, str]] = {choice: {} for choice in choices}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise CommandError(f"--set {text} sets nothing", "write it as --set field=value")
        first, _, rest = path.partition(".")
        mine, name = ([first], rest) if first in settings and rest else (choices, path)
        for choice in mine:
            if name in settings[choice]:
                raise CommandError(f"`{name}` is set twice", "leave one --set out")
            settings[choice][name] = value
    return settings


def _check_all(targets: "list[Target]", limits: "Limits") -> "list[Checked]":
    """Check one after the other, with a bar each."""
    from lerobot_ext.cli.look import progress
    from lerobot_ext.testing.check_run import check

    checked = []
    with progress() as bars:
        for target in targets:
            bar = bars.add_task(target.title, total=None)

            def watch(what: str, total: int | None, bar: Any = bar, title: str = target.title) -> None:
                if total is not None:
                    bars.update(bar, total=total)
                elif "/" in what:
                    bars.update(bar, description=f"{title}: {what.partition('/')[2]}", advance=1)
                else:
                    bars.update(bar, description=f"{title}: {what}")

            one = check(target, limits, watch)
            n = max(len(one.outcomes), 1)
            bars.update(bar, description=target.title, total=n, completed=n)
            checked.append(one)
    return checked


def _show(found: "Found | None", checked: "list[Checked]", *, trace: bool) -> None:
    """A table for each choice, then one line for each."""
    from lerobot_ext.cli.look import console
    from lerobot_ext.testing.check_report import outcome_table, owner, versions

    out = console()
    known = versions(found, checked)
    plugins = known.pop("plugins")
    out.print(", ".join(f"{name} {version}" for name, version in known.items()))
    if found is not None:
        _show_distribution(out, found)
    for one in checked:
        origin = owner(one, found)
        version = f" {plugins[origin]}" if origin in plugins else ""
        out.print(outcome_table(f"{one.target.title} ({origin or 'unknown'}{version})", one.outcomes))
        for field, what in one.changed.items():
            out.print(f"  set by the check: {field}: {what}", markup=False)
        if trace:
            for outcome in one.outcomes:
                if outcome.trace:
                    out.print(f"\n[{outcome.rule.name}]\n{outcome.trace}", markup=False)
    for one in checked:
        out.print(one.summary, markup=False)


def _show_distribution(out: "Console", found: "Found") -> None:
    for outcome in found.problems:
        out.print(f"problem: {found.name}: {outcome.found}", markup=False)
        out.print(f"  remedy: {outcome.rule.remedy}", markup=False)
    for other in found.others:
        out.print(f"no contract exists for {other}", markup=False)


def _list_rules(args: Namespace) -> int:
    """Print every rule of every contract."""
    from lerobot_ext.cli.look import console, table, write_json
    from lerobot_ext.testing.check_child import matches
    from lerobot_ext.testing.check_kinds import contract_class, has_contract

    rules = [rule for kind in KINDS if has_contract(kind) for rule in contract_class(kind).rules()]
    if args.only:
        rules = [rule for rule in rules if matches(rule.name, args.only)]
    if args.json:
        write_json([{"rule": r.name, "statement": r.statement, "remedy": r.remedy} for r in rules])
    else:
        rows = [(rule.name, rule.statement, rule.remedy) for rule in rules]
        console().print(table("", ["rule", "what must hold", "remedy"], rows))
    return 0


CHECK = Command(
    name="check",
    summary="Try a plugin, or a part of LeRobot, against the rules that LeRobot's code relies on.",
    example="lerobot-ext check lerobot_policy_hierarchical_diffusion",
    configure=_configure,
    run=_run,
)
