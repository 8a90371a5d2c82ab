# SPDX-License-Identifier: Apache-2.0
"""How rules are named, ordered, judged and reported."""

import unittest

import pytest

from lerobot_ext.testing.contract import BrokenRuleError, Contract, broken, rule, run_contract, skip

pytest_plugins = ["pytester"]


class NumberContract(Contract):
    subject = "number"
    calls: list[str] = []  # noqa: RUF012

    def make(self):
        raise NotImplementedError

    @rule(remedy="make it smaller", needs=["is-a-number"])
    def test_is_small(self):
        """The number is at most ten.

        More about it.
        """
        if self.make() > 10:
            broken(f"{self.make()} > 10")

    @rule(remedy="make it whole", needs=["is-small"])
    def test_is_whole(self):
        """The number is whole."""
        if self.make() == 0:
            skip("zero is nothing")
        assert self.make() % 1 == 0, "has a fraction"

    @rule(remedy="return a number")
    def test_is_a_number(self):
        """`make` returns a number."""
        self.calls.append("is-a-number")
        if not isinstance(self.make(), (int, float)):
            broken(f"{self.make()!r}")


def outcomes(value):
    class Numbers(NumberContract):
        calls: list[str] = []  # noqa: RUF012

        def make(self):
            if isinstance(value, Exception):
                raise value
            return value

    return Numbers, {o.rule.name: (o.status, o.found) for o in run_contract(Numbers)}


def test_rules_come_after_what_they_need():
    assert [r.name for r in NumberContract.rules()] == [
        "number/is-a-number",
        "number/is-small",
        "number/is-whole",
    ]
    assert NumberContract.rules()[1].statement == "The number is at most ten."


def test_a_good_subject_passes_and_each_rule_runs_once():
    contract, found = outcomes(3)
    assert {status for status, _ in found.values()} == {"passed"}
    assert contract.calls == ["is-a-number"]
    contract().test_is_whole()
    assert contract.calls == ["is-a-number"]


def test_what_builds_on_a_broken_rule_is_not_reached():
    _, found = outcomes("three")
    assert found == {
        "number/is-a-number": ("failed", "'three'"),
        "number/is-small": ("not reached", "number/is-a-number"),
        "number/is-whole": ("not reached", "number/is-a-number"),
    }


def test_any_exception_breaks_the_rule_and_keeps_its_traceback():
    contract, found = outcomes(OSError("no such number"))
    assert found["number/is-a-number"] == ("failed", "OSError: no such number")
    with pytest.raises(
        BrokenRuleError, match=r"(?s)\[number/is-a-number\].*found:.*remedy: return a number.*OSError"
    ):
        contract().test_is_a_number()


def test_a_rule_that_does_not_apply_is_skipped_for_test_runners_too():
    contract, found = outcomes(0)
    assert found["number/is-whole"] == ("skipped", "zero is nothing")
    with pytest.raises(unittest.SkipTest, match="zero is nothing"):
        contract().test_is_whole()
    with pytest.raises(unittest.SkipTest, match="not reached: number/is-a-number"):
        outcomes("x")[0]().test_is_whole()


def test_folders_and_managers_are_put_away_after_each_rule():
    seen = []

    class Folders(Contract):
        subject = "folder"

        @rule(remedy="none")
        def test_one(self):
            """A folder is there while the rule runs."""
            folder = self.new_folder()
            assert folder.is_dir()
            self.at_end(lambda: seen.append("closed"))
            seen.append(folder)

    assert [o.status for o in run_contract(Folders)] == ["passed"]
    assert seen[1] == "closed"
    assert not seen[0].exists()
    with pytest.raises(RuntimeError, match="while a rule runs"):
        Folders().new_folder()


def test_a_contract_that_cannot_be_ordered_says_why():
    class Loop(Contract):
        @rule(remedy="-", needs=["b"])
        def test_a(self):
            """A."""

        @rule(remedy="-", needs=["a"])
        def test_b(self):
            """B."""

    with pytest.raises(TypeError, match="need each other"):
        Loop.rules()

    class Missing(Contract):
        @rule(remedy="-", needs=["gone"])
        def test_a(self):
            """A."""

    with pytest.raises(TypeError, match=r"rule thing/a needs `test_gone`"):
        Missing.rules()
    with pytest.raises(TypeError, match="docstring"):

        @rule(remedy="-")
        def test_silent(self):
            pass


class TestInherited(NumberContract):
    """A subclass is all that pytest needs."""

    def make(self):
        return 7


def test_a_known_failure_is_expected_to_fail_and_is_no_failure_of_others(pytester):
    pytester.makepyfile(
        test_numbers="""
        from lerobot_ext.testing import known_failure
        from lerobot_ext.testing.contract import Contract, broken, rule

        class NumberContract(Contract):
            @rule(remedy="make it smaller")
            def test_is_small(self):
                "The number is small."
                if self.number > 10: broken("large")

        class TestLarge(NumberContract):
            number = 20
            test_is_small = known_failure(NumberContract.test_is_small, "20 is meant")

        class TestRepaired(NumberContract):
            number = 2
            test_is_small = known_failure(NumberContract.test_is_small, "2 was large once")

        class TestSmall(NumberContract):
            number = 3
        """
    )
    found = pytester.runpytest_inprocess("-p", "no:xdist", "-p", "no:rerunfailures")
    found.assert_outcomes(xfailed=1, failed=1, passed=1)
    found.stdout.fnmatch_lines(["*XPASS(strict)*2 was large once*"])
