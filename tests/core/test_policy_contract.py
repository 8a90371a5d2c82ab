# SPDX-License-Identifier: Apache-2.0
"""The policy contract: a healthy toy passes, and each broken toy is caught by exactly its rule."""

import sys

import pytest
from lerobot.configs import PreTrainedConfig
from toy_plugins import installed

from lerobot_ext.testing import PolicyContract
from lerobot_ext.testing.contract import run_contract

RULES = [rule.name.removeprefix("policy/") for rule in PolicyContract.rules()]


@pytest.fixture(scope="module", autouse=True)
def _toys(tmp_path_factory):
    with installed(tmp_path_factory.mktemp("toys")):
        yield


def judged(contract):
    outcomes = {o.rule.name.removeprefix("policy/"): o for o in run_contract(contract)}
    return outcomes, {name: o.found + o.trace for name, o in outcomes.items() if o.status == "failed"}


def test_the_toy_keeps_every_rule():
    outcomes, failed = judged(PolicyContract.for_choice("toy", {}))
    assert failed == {}
    assert [name for name, o in outcomes.items() if o.status != "passed"] == []


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_policy_is_caught_by_its_rule_alone(rule):
    name = rule.replace("-", "_")
    unregistered = sys.modules["lerobot_policy_broken.configuration_broken"].TypeIsRegisteredConfig
    known = {"type_is_registered": unregistered} | PreTrainedConfig.get_known_choices()

    class Broken(PolicyContract):
        def make_config(self):
            return known[name](device="cpu")

    _, failed = judged(Broken)
    assert set(failed) == {rule}, failed
