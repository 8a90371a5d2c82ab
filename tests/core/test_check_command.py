# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext check`: which settings and rules its words mean."""

import json

import pytest

from lerobot_ext.cli.command import CommandError
from lerobot_ext.cli.main import main
from lerobot_ext.testing.check_child import matches, selected_rules
from lerobot_ext.testing.check_command import _settings
from lerobot_ext.testing.check_kinds import KINDS, contract_class, has_contract
from lerobot_ext.testing.check_run import Checked, Target
from lerobot_ext.testing.contract import Contract, Outcome, rule


class Steps(Contract):
    subject = "step"

    @rule(remedy="-")
    def test_first(self):
        """First."""

    @rule(remedy="-", needs=["first"])
    def test_second(self):
        """Second."""

    @rule(remedy="-", needs=["second"])
    def test_third(self):
        """Third."""

    @rule(remedy="-")
    def test_other(self):
        """Other."""


def test_settings_go_to_the_choice_they_name_or_to_all():
    found = _settings(["koch.obs=pixels", "task=lift", "region.yaw_rad=0.1"], ["koch", "toy"])
    assert found == {
        "koch": {"obs": "pixels", "task": "lift", "region.yaw_rad": "0.1"},
        "toy": {"task": "lift", "region.yaw_rad": "0.1"},
    }
    assert _settings(["text=a=b"], ["koch"]) == {"koch": {"text": "a=b"}}


@pytest.mark.parametrize("texts", [["task"], ["=1"], ["task=a", "task=b"], ["koch.task=a", "task=b"]])
def test_settings_that_mean_nothing_are_refused(texts):
    with pytest.raises(CommandError, match=r"sets nothing|set twice"):
        _settings(texts, ["koch"])


def test_only_brings_what_a_rule_builds_on():
    def names(*only):
        return [found.name.removeprefix("step/") for found in selected_rules(Steps, only)]

    assert names("step/third") == ["first", "second", "third"]
    assert names("s*") == ["first", "second", "third", "other"]  # `step/…` begins with s
    assert names("other") == ["other"]
    assert names() == ["first", "second", "third", "other"]
    assert names("nothing") == []


def test_patterns_match_with_and_without_the_subject():
    assert matches("policy/loss-is-finite", ["loss*"])
    assert matches("policy/loss-is-finite", ["policy/*"])
    assert not matches("policy/loss-is-finite", ["robot/*", "finite"])


def test_the_summary_counts_by_status():
    first = Steps.rules()[0]
    outcomes = [Outcome(first, status) for status in ("passed", "passed", "failed", "skipped")]
    assert Checked(Target("policy", "act"), outcomes).summary == "act: 2 passed, 1 failed, 1 skipped"
    assert Checked(Target("policy", "act")).summary == "act: 0 passed, 0 failed"


def test_what_another_process_found_out_is_not_tried_again():
    class Known(Steps):
        pass

    first, second = (found for found in Known.rules()[:2])
    Known.settle(Outcome(first, "failed", "it ended the process"))
    assert Known().judge(first.test).found == "it ended the process"
    assert Known().judge(second.test).status == "not reached"


def test_rules_are_listed_with_statement_and_remedy(capsys):
    assert main(["check", "--rules", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    expected = {r.name for kind in KINDS if has_contract(kind) for r in contract_class(kind).rules()}
    assert {entry["rule"] for entry in listed} == expected
    assert all(entry["statement"] and entry["remedy"] for entry in listed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to check is named"),
        (["some_plugin", "--robot.type=koch_follower"], "are both named"),
        (["--robot.type=koch_follower", "--timeout=0"], "leaves no time"),
    ],
)
def test_senseless_words_are_refused(capsys, words, message):
    assert main(["check", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "remedy: " in error
