# SPDX-License-Identifier: Apache-2.0
"""RobotContract: a healthy toy keeps it; of each broken one exactly the rule that it breaks is told."""

from typing import ClassVar

import pytest
from broken_plugins import broken_configs, broken_connections, failures, rule_names
from lerobot.robots.utils import make_robot_from_config
from toy_devices import ToyRobot, ToyRobotConfig

from lerobot_ext.testing import RobotContract


class Healthy(RobotContract):
    device: ClassVar[type] = ToyRobot

    def make_config(self):
        return ToyRobotConfig(id="toy")

    def bad_settings(self):
        return {"speed": 0}

    def build(self, config):
        return self.device(config)

    def may_move_far(self):
        return True


def broken(**members):
    """The toy with some members exchanged."""
    return type("Broken", (Healthy,), {"device": type("BrokenRobot", (ToyRobot,), members)})


def lie(self, action):
    return {**ToyRobot.send_action(self, action), **{k: v for k, v in action.items() if k not in self.places}}


def fill_in(self, action):
    return ToyRobot.send_action(self, {**dict.fromkeys(self.places, 0.0), **action})


def change(self, action):
    sent = ToyRobot.send_action(self, action)
    action["arm.pos"] = 0.0
    return sent


def only_motors(self, action):
    unknown = set(action) - set(self.places)
    if unknown:
        raise KeyError(f"no motors: {unknown}")
    return ToyRobot.known(self, action)


def keep_elsewhere(self, config):
    ToyRobot.__init__(self, config)
    self.calibration_fpath = self.calibration_dir / "calibration.json"


NAMELESS = {"arm": float, "claw": float}
BROKEN = {
    "names-are-set": broken(name="toy robot/1"),
    "calibration-file-follows-the-id": broken(__init__=keep_elsewhere),
    "observation-features-reach-the-dataset": broken(
        observation_features={**ToyRobot.observation_features, "gear": int}
    ),
    "action-features-reach-the-dataset": broken(action_features={"arm.pos": float, "claw.pos": bool}),
    "rollout-uses-every-feature": broken(
        observation_features={**ToyRobot.observation_features, "claw.force": float},
        get_observation=lambda self: {**ToyRobot.get_observation(self), "claw.force": 0.5},
    ),
    "observation-fits-its-features": broken(
        get_observation=lambda self: {**ToyRobot.get_observation(self), "more": 1.0}
    ),
    "send-action-returns-what-was-sent": broken(
        send_action=lambda self, action: ToyRobot.send_action(self, action) and None
    ),
    "send-action-leaves-its-argument-alone": broken(send_action=change),
    "missing-joints-stay-where-they-are": broken(send_action=fill_in),
    "unknown-joints-are-not-claimed": broken(send_action=lie),
    "refuses-numbers-that-are-none": broken(
        known=lambda self, action: {k: max(-100.0, v) for k, v in action.items() if k in self.places}
    ),
    "limits-relative-targets": broken(limited=lambda self, goal: goal),
    "goes-back-to-where-it-was": broken(
        observation_features={**ToyRobot.observation_features, "cube.pos": float},
        get_observation=lambda self: {**ToyRobot.get_observation(self), "cube.pos": 0.5},
        known=only_motors,
    ),
    **broken_configs(Healthy, ToyRobotConfig),
    **broken_connections(Healthy, ToyRobot, ToyRobotConfig),
}


class TestHealthy(Healthy):
    def build(self, config):
        return make_robot_from_config(config)


@pytest.mark.parametrize("rule", sorted(BROKEN))
def test_a_broken_robot_is_caught_by_exactly_its_rule(rule):
    assert failures(BROKEN[rule]) == [rule]


def test_every_rule_has_a_broken_robot():
    assert set(BROKEN) == rule_names(RobotContract)


def test_without_a_device_the_rules_that_need_one_are_skipped():
    class Absent(Healthy):
        device = type("AbsentRobot", (ToyRobot,), {"connect": lambda self, calibrate: 1 / 0})

        def has_device(self):
            return False

    assert failures(Absent) == []
    assert Absent().judge("test_connects").found == "no device is reachable: `has_device` says so"


def test_a_device_that_does_not_answer_is_a_reason_to_skip_unless_there_must_be_one():
    def refuse(self, calibrate=True):
        raise ConnectionError("no answer from /dev/none")

    class Silent(Healthy):
        device = type("SilentRobot", (ToyRobot,), {"connect": refuse})

    class Promised(Silent):
        def has_device(self):
            return True

    assert "no answer from /dev/none" in Silent().judge("test_connects").found
    assert failures(Silent) == []
    assert failures(Promised) == ["connects"]
