# SPDX-License-Identifier: Apache-2.0
"""TeleoperatorContract: a healthy toy keeps it; of each broken one exactly its rule is told."""

from typing import ClassVar

import pytest
from broken_plugins import broken_configs, broken_connections, failures, rule_names
from lerobot.teleoperators.utils import make_teleoperator_from_config
from toy_devices import JOINTS, ToyTeleoperator, ToyTeleoperatorConfig

from lerobot_ext.testing import TeleoperatorContract


class Healthy(TeleoperatorContract):
    device: ClassVar[type] = ToyTeleoperator

    def make_config(self):
        return ToyTeleoperatorConfig(id="toy")

    def bad_settings(self):
        return {"speed": 0}

    def robot_action_features(self):
        return JOINTS

    def build(self, config):
        return self.device(config)


def broken(**members):
    """The toy with some members exchanged."""
    return type("Broken", (Healthy,), {"device": type("BrokenTeleoperator", (ToyTeleoperator,), members)})


def refuse(self, feedback):
    self.require()
    raise NotImplementedError


def keep_elsewhere(self, config):
    ToyTeleoperator.__init__(self, config)
    self.calibration_fpath = self.calibration_dir / "calibration.json"


BROKEN = {
    "names-are-set": broken(config_class=int),
    "calibration-file-follows-the-id": broken(__init__=keep_elsewhere),
    "action-features-name-the-actions": broken(action_features={"dtype": "float32", "shape": (2,)}),
    "feedback-features-are-a-dict": broken(feedback_features=None),
    "feedback-comes-with-torque-switches": broken(enable_torque=None),
    "action-drives-the-robot": broken(
        action_features={"arm.pos": float}, get_action=lambda self: self.require() or {"arm.pos": 1.0}
    ),
    "action-fits-its-features": broken(
        get_action=lambda self: self.require() or {"arm.pos": 1.0, "claw.pos": float("nan")}
    ),
    "takes-the-feedback-it-declares": broken(send_feedback=refuse),
    "says-whether-it-is-calibrated": broken(is_calibrated=None),
    **broken_configs(Healthy, ToyTeleoperatorConfig),
    **broken_connections(Healthy, ToyTeleoperator, ToyTeleoperatorConfig),
}


class TestHealthy(Healthy):
    def build(self, config):
        return make_teleoperator_from_config(config)


@pytest.mark.parametrize("rule", sorted(BROKEN))
def test_a_broken_teleoperator_is_caught_by_exactly_its_rule(rule):
    assert failures(BROKEN[rule]) == [rule]


def test_every_rule_has_a_broken_teleoperator():
    assert set(BROKEN) == rule_names(TeleoperatorContract)
