# SPDX-License-Identifier: Apache-2.0
"""Every step of the package keeps the contract of processor steps."""

import pytest
from lerobot.processor import ProcessorStepRegistry
from step_cases import CASES

from lerobot_ext.testing import ProcessorStepContract
from lerobot_ext.testing.contract import run_contract
from lerobot_ext.testing.contracts.step_data import shapes_of


@pytest.mark.parametrize("name", CASES)
def test_the_contract_is_kept(name):
    case = CASES[name]

    class Contract(ProcessorStepContract):
        def make_step(self):
            return case.make()

        def make_transition(self):
            return case.data()

        def make_features(self):
            # A policy that acts has no action yet, and LeRobot names none then.
            features = shapes_of(case.data())
            return {
                kind: {key: each for key, each in named.items() if each is not float or key != "action"}
                for kind, named in features.items()
            }

        def make_inverse(self, step):
            return case.invert(step) if case.invert else None

    outcomes = list(run_contract(Contract))
    failed = {o.rule.name: o.found + o.trace for o in outcomes if o.status in ("failed", "not reached")}
    assert failed == {}
    skipped = {o.rule.name for o in outcomes if o.status == "skipped"}
    assert skipped == (set() if case.invert else {"step/inverse-undoes-it"})


def test_every_step_of_this_half_has_a_case():
    classes = {type(case.make()) for case in CASES.values()}
    modules = {step.__module__ for step in classes}
    registered = {
        ProcessorStepRegistry.get(name)
        for name in ProcessorStepRegistry.list()
        if ProcessorStepRegistry.get(name).__module__ in modules
    }
    assert {step.__name__ for step in registered} == {step.__name__ for step in classes}
