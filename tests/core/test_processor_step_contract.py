# SPDX-License-Identifier: Apache-2.0
"""The contract of processor steps: toys that break one rule each, LeRobot's own steps, and ours."""

import pytest
from lerobot.processor import ProcessorStepRegistry
from toy_plugins import installed

from lerobot_ext.cli.command import CommandError
from lerobot_ext.processing.environment_state import SplitEnvironmentStateStep
from lerobot_ext.testing import ProcessorStepContract
from lerobot_ext.testing.contract import run_contract
from lerobot_ext.testing.contracts.step_data import policy_transition

RULES = [rule.name.removeprefix("step/") for rule in ProcessorStepContract.rules()]


@pytest.fixture(scope="module", autouse=True)
def _toys(tmp_path_factory):
    with installed(tmp_path_factory.mktemp("toys")):
        yield


def judged(contract):
    outcomes = {o.rule.name.removeprefix("step/"): o for o in run_contract(contract)}
    return outcomes, {name: o.found + o.trace for name, o in outcomes.items() if o.status == "failed"}


def contract_of(make):
    class Steps(ProcessorStepContract):
        def make_step(self):
            return make()

        def make_inverse(self, step):
            from lerobot_policy_toy.steps_toy import ToyUnstep

            return ToyUnstep(gain=2.0)

    return Steps


def test_the_toy_keeps_every_rule():
    from lerobot_policy_toy.steps_toy import ToyStep

    outcomes, failed = judged(contract_of(lambda: ToyStep(gain=2.0)))
    assert failed == {}
    assert {o.status for o in outcomes.values()} == {"passed"}


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_step_is_caught_by_its_rule_alone(rule):
    from lerobot_policy_broken import toy_steps_broken

    makers = {
        "step-builds": lambda: len,
        "class-is-registered": lambda: toy_steps_broken.Unregistered(gain=2.0),
        "pipeline-survives-saving": lambda: toy_steps_broken.NoFileName(gain=2.0),
    }
    name = f"broken_{rule.replace('-', '_')}"
    make = makers.get(rule) or (lambda: ProcessorStepRegistry.get(name)(gain=2.0))
    _, failed = judged(contract_of(make))
    assert set(failed) == {rule}, failed


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("normalizer_processor", {}),
        ("unnormalizer_processor", {}),
        ("rename_observations_processor", {"rename_map": "{observation.state: observation.joints}"}),
        ("device_processor", {"device": "cpu"}),
        ("to_batch_processor", {}),
        ("lerobot_ext_split_environment_state", {"state_dim": "6"}),
    ],
)
def test_registered_steps_by_name(name, settings):
    contract = ProcessorStepContract.for_choice(name, settings)
    _, failed = judged(contract)
    assert failed == {}


def test_a_step_that_cannot_be_made_names_its_fields():
    with pytest.raises(CommandError, match=r"`device_processor` cannot be made: .*nowhere") as caught:
        ProcessorStepContract.for_choice("device_processor", {"device": "nowhere"})
    assert "device, float_dtype" in caught.value.remedy
    with pytest.raises(CommandError, match="no processor step is registered as 'device'"):
        ProcessorStepContract.for_choice("device", {})


class TestSplitEnvironmentState(ProcessorStepContract):
    def make_step(self):
        return SplitEnvironmentStateStep(state_dim=6, environment_dim=3)

    def make_transition(self):
        return policy_transition(state=9)
