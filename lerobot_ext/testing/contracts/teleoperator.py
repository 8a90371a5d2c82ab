# SPDX-License-Identifier: Apache-2.0
"""`TeleoperatorContract`: what `lerobot-record`, `-teleoperate` and `-rollout` rely on in a teleoperator.

```python
class TestMyLeader(TeleoperatorContract):
    def make_config(self):
        return MyLeaderConfig(port="/dev/ttyUSB1", id="test")
```

Rules that need the device itself are skipped where none answers.
"""

from collections.abc import Callable, Mapping
from typing import Any

from lerobot_ext.testing.contract import broken, rule, skip
from lerobot_ext.testing.contracts.calibrated import CalibratedContract
from lerobot_ext.testing.contracts.frames import require_values


class TeleoperatorContract(CalibratedContract):
    """Rules for teleoperators; override `make_config`."""

    subject = "teleoperator"
    registry = ("lerobot.teleoperators.config", "TeleoperatorConfig")

    def robot_action_features(self) -> Mapping[str, Any]:
        """`action_features` of the robot it is made for; empty when it is made for no certain one."""
        return {}

    def make_feedback(self, teleoperator: Any) -> dict[str, Any]:
        """Feedback that leaves the connected teleoperator where it is."""
        action = teleoperator.get_action()
        return {key: float(action.get(key, 0.0)) for key in teleoperator.feedback_features}

    def build(self, config: Any) -> Any:
        """What `make_teleoperator_from_config` builds."""
        from lerobot.teleoperators.utils import make_teleoperator_from_config

        return make_teleoperator_from_config(config)

    def uses(self, device: Any) -> Mapping[str, Callable[[], object]]:
        """Calls that need a connection."""
        calls: dict[str, Callable[[], object]] = {"get_action": device.get_action}
        if device.feedback_features:
            feedback = dict.fromkeys(device.feedback_features, 0.0)
            calls["send_feedback"] = lambda: device.send_feedback(feedback)
        return calls

    # Before connecting

    @rule(
        remedy="return {name: float} for each value that `get_action` gives, from the config alone",
        needs=["construction-touches-nothing"],
    )
    def test_action_features_name_the_actions(self) -> None:
        """Before connecting, `action_features` gives the type of each value that `get_action` will give."""
        features = self.make_device().action_features
        if not isinstance(features, Mapping) or not features:
            broken(f"`action_features` is {features!r}")
        for name, kind in features.items():
            if not isinstance(kind, (type, tuple)):
                broken(f"`action_features[{name!r}]` is {kind!r}, neither a type nor a shape")

    @rule(
        remedy="return a dict from `feedback_features`, {} when the device takes none",
        needs=["construction-touches-nothing"],
    )
    def test_feedback_features_are_a_dict(self) -> None:
        """Before connecting, `feedback_features` is a dict by name, empty without feedback."""
        features = self.make_device().feedback_features
        if not isinstance(features, Mapping) or not all(isinstance(name, str) for name in features):
            broken(f"`feedback_features` is {features!r}")

    @rule(
        remedy="implement `enable_torque()` and `disable_torque()`, or declare no feedback",
        needs=["feedback-features-are-a-dict"],
    )
    def test_feedback_comes_with_torque_switches(self) -> None:
        """Who takes feedback has `enable_torque` and `disable_torque`: LeRobot hands over only with both."""
        device = self.make_device()
        if not device.feedback_features:
            skip("it takes no feedback")
        missing = [n for n in ("enable_torque", "disable_torque") if not callable(getattr(device, n, None))]
        if missing:
            broken(f"it takes feedback, but has no {' and no '.join(missing)}")

    @rule(
        remedy="name the values like the robot's `action_features`",
        needs=["action-features-name-the-actions"],
    )
    def test_action_drives_the_robot(self) -> None:
        """`action_features` covers every action of the robot that it is made for."""
        wanted = self.robot_action_features()
        if not wanted:
            skip("`robot_action_features` names no robot")
        missing = sorted(set(wanted) - set(self.make_device().action_features))
        if missing:
            broken(f"the robot waits for {missing}")

    # Connected

    @rule(
        remedy="let `get_action` return exactly the keys of `action_features`, as finite numbers",
        needs=["connects", "action-features-name-the-actions"],
    )
    def test_action_fits_its_features(self) -> None:
        """`get_action` returns what `action_features` promises: keys and finite numbers."""
        device = self.connected()
        action, features = device.get_action(), device.action_features
        require_values(action, features)

    @rule(
        remedy="implement `send_feedback` for the keys of `feedback_features`, or declare none",
        needs=["action-fits-its-features", "feedback-features-are-a-dict"],
    )
    def test_takes_the_feedback_it_declares(self) -> None:
        """`send_feedback` takes what `feedback_features` declares."""
        device = self.connected()
        if not device.feedback_features:
            skip("it takes no feedback")
        device.send_feedback(self.make_feedback(device))

    @rule(remedy="return True or False; True when nothing needs calibrating", needs=["connects"])
    def test_says_whether_it_is_calibrated(self) -> None:
        """Connected, `is_calibrated` is True or False."""
        calibrated = self.connected().is_calibrated
        if not isinstance(calibrated, bool):
            broken(f"`is_calibrated` is {calibrated!r}")
