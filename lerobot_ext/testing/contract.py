# SPDX-License-Identifier: Apache-2.0
"""What a contract is: rules that everything of one kind must keep, each with a name and a remedy.

A plugin author inherits a contract and overrides one factory method; pytest then finds one test a rule:

```python
class TestMyPolicy(PolicyContract):
    def make_config(self):
        return MyPolicyConfig(device="cpu", **self.features())
```

`lerobot-ext check DISTRIBUTION` runs the same rules without pytest, through `run_contract`.

The form is dm_env's `EnvironmentTestMixin` (one factory method, named messages), see
https://github.com/google-deepmind/dm_env/blob/master/dm_env/test_utils.py. Differences: a rule says what it
builds on (`needs`), so that a broken plugin is told the first thing that is wrong and not all that follows
from it; and the rules also run outside a test runner.
"""

import functools
import shutil
import tempfile
import time
import traceback
import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Self, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Rule:
    """One thing that must hold.

    Args:
        name (`str`): Stable word, `policy/loss-is-finite`: the contract's `subject` and the test's name.
        statement (`str`): What must hold, one sentence: the first paragraph of the test's docstring.
        remedy (`str`): What the plugin's author should do when it does not.
        needs (`tuple[str, ...]`): Rules of the same contract, by the part of the name after the slash. When
            one of them does not hold, this one is not reached.
        test (`str`): Name of the method.
    """

    name: str
    statement: str
    remedy: str
    needs: tuple[str, ...]
    test: str


@dataclass(frozen=True)
class Outcome:
    """What became of one rule.

    Args:
        rule (`Rule`): The rule.
        status (`str`): `passed`, `failed`, `skipped` (it does not apply) or `not reached` (a rule that it
            builds on does not hold).
        found (`str`): What was found instead, why it does not apply, or which rule it waits for.
        seconds (`float`): How long it took.
        trace (`str`): Traceback when the plugin itself raised, else empty.
    """

    rule: Rule
    status: Literal["passed", "failed", "skipped", "not reached"]
    found: str = ""
    seconds: float = 0.0
    trace: str = ""


class BrokenRuleError(AssertionError):
    """A rule that does not hold: the message names rule, finding and remedy, each on a line."""

    def __init__(self, outcome: Outcome) -> None:
        rule = outcome.rule
        lines = [f"[{rule.name}] {rule.statement}", f"found:  {outcome.found}", f"remedy: {rule.remedy}"]
        super().__init__("\n".join(lines + ([outcome.trace] if outcome.trace else [])))
        self.outcome = outcome


class _BrokenError(Exception):
    """Raised inside a rule by `broken`."""


class _SkippedError(Exception):
    """Raised inside a rule by `skip`."""


def broken(found: str) -> NoReturn:
    """Say, inside a rule, that it does not hold.

    Args:
        found (`str`): What was found, with names and values: `loss is nan for a batch of 3`.
    """
    raise _BrokenError(found)


def skip(reason: str) -> NoReturn:
    """Say, inside a rule, that it does not apply to this plugin.

    Args:
        reason (`str`): Why: `the policy does not claim real-time chunking`.
    """
    raise _SkippedError(reason)


def rule(
    *, remedy: str, needs: Sequence[str] = ()
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Make a method of a contract one of its rules.

    The method is named `test_…`, takes no arguments, and its docstring's first paragraph says what must hold.
    Inside, `broken(…)` says that it does not, `skip(…)` that it does not apply; any other exception counts as
    broken too, with its traceback.

    Args:
        remedy (`str`): What the plugin's author should do.
        needs (`Sequence[str]`): Rules that this one builds on, such as `"config-builds"`.
    """

    def decorate(method: Callable[[Any], None]) -> Callable[[Any], None]:
        test = method.__name__
        if not test.startswith("test_") or not (method.__doc__ or "").strip():
            raise TypeError(
                f"rule `{test}`: name it `test_…` and give it a docstring that says what must hold"
            )

        @functools.wraps(method)
        def run(self: "Contract") -> None:
            outcome = self.judge(test)
            if outcome.status == "failed":
                raise BrokenRuleError(outcome)
            if outcome.status != "passed":
                raise unittest.SkipTest(f"{outcome.status}: {outcome.found}")

        run.__dict__["check"] = method
        run.__dict__["remedy"] = remedy
        run.__dict__["needs"] = tuple(needs)
        return run

    return decorate


def known_failure(test: Callable[[Any], None], reason: str) -> Callable[[Any], None]:
    """A rule as a test that is expected to fail; pytest reports it, and complains when it passes.

    Args:
        test (`Callable`): The rule's method: `PolicyContract.test_missing_statistics_are_refused`.
        reason (`str`): Why it fails, and where: `LeRobot 0.6.1, processor/normalize_processor.py:330`.

    Example:
        ```python
        class TestMyPolicy(PolicyContract):
            test_loss_is_finite = known_failure(PolicyContract.test_loss_is_finite, "#12")
        ```
    """
    import pytest

    @functools.wraps(test)
    def expected(self: "Contract") -> None:
        test(self)

    marked: Callable[[Any], None] = pytest.mark.xfail(strict=True, reason=reason, raises=BrokenRuleError)(
        expected
    )
    return marked


class Contract:
    """Base of all contracts; see the module's docstring.

    `subject` begins the names of a contract's rules. A factory method may be called many times: each rule
    makes its own object, so that no rule depends on what another left behind.

    `changed` says what `for_choice` set by itself, by field: what was set and why. `may_connect` is `False`
    when rules must leave devices alone, also where one could be reached.
    """

    subject: ClassVar[str] = "thing"
    changed: ClassVar[Mapping[str, str]] = {}
    may_connect: ClassVar[bool] = True
    _rules: ClassVar[dict[str, Rule]] = {}
    _outcomes: ClassVar[dict[str, Outcome]] = {}
    _open: ExitStack | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._rules = {found.test: found for found in _rules_of(cls)}
        cls._outcomes = {}

    @classmethod
    def for_choice(cls, name: str, settings: Mapping[str, str]) -> type[Self]:
        """The contract for what is registered with LeRobot under `name`, as `lerobot-ext check` needs it.

        Args:
            name (`str`): What a user types after `--policy.type=`; for processor steps their registry name.
            settings (`Mapping[str, str]`): Fields to set, as text: `{"horizon": "8"}`; see
                `lerobot_ext.testing.choices`.

        Raises:
            CommandError: There is no such choice or no such field; the message says which there are.
        """
        raise NotImplementedError(f"{cls.__name__} cannot be made from a registered name")

    @classmethod
    def rules(cls) -> list[Rule]:
        """All rules, each after the ones it needs.

        Raises:
            TypeError: A rule needs one that does not exist, or two need each other.
        """
        ordered: dict[str, Rule] = {}

        def add(found: Rule, wanted_by: tuple[str, ...]) -> None:
            if found.test in wanted_by:
                raise TypeError(f"rules that need each other: {' -> '.join((*wanted_by, found.test))}")
            for need in found.needs:
                add(cls._rule(_test_name(need), found), (*wanted_by, found.test))
            ordered.setdefault(found.test, found)

        for found in cls._rules.values():
            add(found, ())
        return list(ordered.values())

    @classmethod
    def _rule(cls, test: str, asker: Rule | None = None) -> Rule:
        if test not in cls._rules:
            who = f"rule {asker.name} needs" if asker else "there is no rule"
            raise TypeError(
                f"{who} `{test}`, which {cls.__name__} does not have; it has {sorted(cls._rules)}"
            )
        return cls._rules[test]

    @classmethod
    def settle(cls, outcome: Outcome) -> None:
        """Take over what is already known of a rule, from another process; it is not tried again."""
        cls._outcomes[outcome.rule.test] = outcome

    @classmethod
    def forget_failures(cls) -> None:
        """Try what failed, and what was not reached, anew when asked: for devices on a busy machine."""
        for test, outcome in list(cls._outcomes.items()):
            if outcome.status in ("failed", "not reached"):
                del cls._outcomes[test]

    def judge(self, test: str) -> Outcome:
        """Whether one rule holds; each is tried once a class, and what it needs before it.

        Args:
            test (`str`): Name of its method.
        """
        known = type(self)._outcomes
        if test not in known:
            known[test] = self._judge(self._rule(test))
        return known[test]

    def _judge(self, found: Rule) -> Outcome:
        for need in found.needs:
            before = self.judge(_test_name(need))
            if before.status in ("failed", "not reached"):
                waits_for = before.rule.name if before.status == "failed" else before.found
                return Outcome(found, "not reached", waits_for)
        start = time.perf_counter()
        status: Literal["passed", "failed", "skipped"] = "passed"
        text, trace = "", ""
        try:
            with ExitStack() as self._open:
                getattr(type(self), found.test).check(self)
        except _BrokenError as error:
            status, text = "failed", str(error)
        except (_SkippedError, unittest.SkipTest) as error:
            status, text = "skipped", str(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the plugin boundary
            status, text, trace = "failed", _one_line(error), traceback.format_exc()
        finally:
            self._open = None
        return Outcome(found, status, text, time.perf_counter() - start, trace)

    def enter(self, manager: AbstractContextManager[T]) -> T:
        """Open `manager` until the running rule ends; for factories that have something to put away."""
        if self._open is None:
            raise RuntimeError("`enter` only works while a rule runs")
        return self._open.enter_context(manager)

    def at_end(self, function: Callable[[], object]) -> None:
        """Call `function` when the running rule ends."""
        if self._open is None:
            raise RuntimeError("`at_end` only works while a rule runs")
        self._open.callback(function)

    def new_folder(self) -> Path:
        """An empty folder that is removed when the running rule ends."""
        folder = Path(tempfile.mkdtemp(prefix="lerobot_ext_contract_"))
        self.at_end(lambda: shutil.rmtree(folder, ignore_errors=True))
        return folder


def run_contract(contract: type[Contract]) -> Iterator[Outcome]:
    """Try all rules of `contract` in order, without a test runner.

    Args:
        contract (`type[Contract]`): A subclass with its factory method overridden.

    Yields:
        `Outcome`: One a rule, as soon as it is known.
    """
    subject = contract()
    for found in contract.rules():
        yield subject.judge(found.test)


def _rules_of(cls: type[Contract]) -> Iterator[Rule]:
    """The rules among the methods of `cls` and its bases, in the order they were written."""
    names = {name: None for base in reversed(cls.__mro__) for name in vars(base) if name.startswith("test_")}
    for name in names:
        method = getattr(cls, name)
        if hasattr(method, "check"):
            statement = " ".join((method.__doc__ or "").strip().split("\n\n")[0].split())
            rule_name = f"{cls.subject}/{name.removeprefix('test_').replace('_', '-')}"
            yield Rule(rule_name, statement, method.remedy, method.needs, name)


def _test_name(need: str) -> str:
    return "test_" + need.replace("-", "_")


def _one_line(error: BaseException) -> str:
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
