# SPDX-License-Identifier: Apache-2.0
"""`RobotContract`: what `lerobot-record`, `-teleoperate`, `-replay` and `-rollout` rely on in a robot.

```python
class TestMyArm(RobotContract):
    def make_config(self):
        return MyArmConfig(port="/dev/ttyUSB0", id="test")
```

Rules that need the robot itself are skipped where none answers. They move it: most send back the position it
is in; `limits_relative_targets` moves each joint by `FAR_UNITS` at most, unless the limit is broken.
"""

import math
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, ClassVar

from lerobot_ext.testing.contract import broken, rule, skip
from lerobot_ext.testing.contracts.calibrated import CalibratedContract
from lerobot_ext.testing.contracts.frames import require_values

FAR_UNITS = 6.0
"""How far away the goal is that a limit must keep a joint from, in the robot's units (degrees or percent)."""
_SETTLING_STEPS = 20
_SETTLING_STEP_S = 0.05


class RobotContract(CalibratedContract):
    """Rules for robots; override `make_config`."""

    subject = "robot"
    registry = ("lerobot.robots.config", "RobotConfig")
    position_tolerance: ClassVar[float] = 3.0
    """How far a joint at rest may seem to move between two readings."""

    def may_move_far(self) -> bool:
        """Whether the robot may be sent nonsense: a robot that obeys it moves to its limits."""
        return False

    def make_action(self, robot: Any) -> dict[str, Any]:
        """An action that leaves the connected robot where it is."""
        observation = robot.get_observation()
        return {key: float(observation.get(key, 0.0)) for key in robot.action_features}

    def build(self, config: Any) -> Any:
        """What `make_robot_from_config` builds."""
        from lerobot.robots.utils import make_robot_from_config

        return make_robot_from_config(config)

    def uses(self, device: Any) -> Mapping[str, Callable[[], object]]:
        """Calls that need a connection."""

        def act() -> object:
            return device.send_action(dict.fromkeys(device.action_features, 0.0))

        return {"get_observation": device.get_observation, "send_action": act}

    def _hold(self, robot: Any) -> dict[str, Any]:
        """Let the arm come to rest under torque: it may have sagged. The action that keeps it there."""
        before = self.make_action(robot)
        robot.send_action(dict(before))
        for _ in range(_SETTLING_STEPS):
            time.sleep(_SETTLING_STEP_S)
            here = self.make_action(robot)
            if all(abs(here[name] - before[name]) < self.position_tolerance / 10 for name in here):
                break
            before = here
        return before

    # Before connecting

    @rule(
        remedy="return {name: float} for numbers and {name: (height, width, channels)} for pictures, from "
        "the config alone; `int`, `bool` and numpy types are not recorded",
        needs=["construction-touches-nothing"],
    )
    def test_observation_features_reach_the_dataset(self) -> None:
        """Before connecting, `observation_features` lists what is observed, all of it fit for a dataset."""
        features = self.make_device().observation_features
        if not features:
            broken("`observation_features` is empty")
        self._check_features("observation_features", features, "observation")

    @rule(
        remedy="return {name: float} for each motor, from the config alone",
        needs=["construction-touches-nothing"],
    )
    def test_action_features_reach_the_dataset(self) -> None:
        """Before connecting, `action_features` lists what can be commanded, all of it fit for a dataset."""
        features = self.make_device().action_features
        if not features:
            broken("`action_features` is empty")
        self._check_features("action_features", features, "action")

    @rule(
        remedy="end the names of numbers in `.pos` or `.vel`",
        needs=["observation-features-reach-the-dataset", "action-features-reach-the-dataset"],
    )
    def test_rollout_uses_every_feature(self) -> None:
        """Numbers are named `….pos` or `….vel`: `lerobot-rollout` leaves out all others."""
        robot = self.make_device()
        for where in ("observation_features", "action_features"):
            for name, kind in getattr(robot, where).items():
                if kind is float and not name.endswith((".pos", ".vel")):
                    broken(f"`{where}[{name!r}]` never reaches a policy, nor the robot from one")

    # Connected

    @rule(
        remedy="let `get_observation` return exactly the keys of `observation_features`: finite numbers, and "
        "pictures as (height, width, 3) uint8 or (height, width, 1) depth",
        needs=["connects", "observation-features-reach-the-dataset"],
    )
    def test_observation_fits_its_features(self) -> None:
        """`get_observation` returns what `observation_features` promises, and makes a dataset's frame."""
        robot = self.connected()
        observation, features = robot.get_observation(), robot.observation_features
        require_values(observation, features)
        self._make_frame(features, observation, "observation")

    @staticmethod
    def _make_frame(features: Mapping[str, Any], values: Mapping[str, Any], prefix: str) -> None:
        """Make a dataset's frame of `values` as LeRobot does; raises where LeRobot would."""
        from lerobot.datasets.feature_utils import validate_frame
        from lerobot.utils.feature_utils import build_dataset_frame, hw_to_dataset_features

        made = hw_to_dataset_features(dict(features), prefix)
        validate_frame({**build_dataset_frame(made, dict(values), prefix), "task": "a task"}, made)

    @rule(
        remedy="return from `send_action` the values that went to the motors, under the action's own keys",
        needs=["observation-fits-its-features", "action-features-reach-the-dataset"],
    )
    def test_send_action_returns_what_was_sent(self) -> None:
        """`send_action` returns the action as it was sent, fit for a dataset: here what it was given."""
        robot = self.connected()
        action = self.make_action(robot)
        sent = robot.send_action(dict(action))
        if not isinstance(sent, Mapping):
            broken(f"it returns {type(sent).__name__}")
        if set(sent) != set(action):
            broken(f"sent {sorted(action)}, returned {sorted(sent)}")
        for name, value in action.items():
            if not math.isclose(float(sent[name]), value, abs_tol=self.position_tolerance):
                broken(f"`{name}` should stay at {value:g}, but {float(sent[name]):g} was sent")
        self._make_frame(robot.action_features, sent, "action")

    @rule(remedy="copy the action before changing it", needs=["send-action-returns-what-was-sent"])
    def test_send_action_leaves_its_argument_alone(self) -> None:
        """`send_action` does not change the dict it is given: the dataset records it afterwards."""
        robot = self.connected()
        action = self.make_action(robot)
        before = deepcopy(action)
        robot.send_action(action)
        if action != before:
            broken(f"{before} became {action}")

    @rule(
        remedy="send only what the action names; never fill in a default for a joint",
        needs=["send-action-returns-what-was-sent"],
    )
    def test_missing_joints_stay_where_they_are(self) -> None:
        """An action that lacks a joint is refused, or leaves that joint where it is."""
        robot = self.connected()
        action = self.make_action(robot)
        left_out = next(iter(action))
        here = action.pop(left_out)
        if not action:
            skip("it has one joint only")
        try:
            sent = robot.send_action(action)
        except Exception:  # noqa: BLE001 - any refusal will do
            return
        value = sent.get(left_out, here)
        if not math.isclose(float(value), here, abs_tol=self.position_tolerance):
            broken(f"an action without `{left_out}` sends it from {here:g} to {float(value):g}")

    @rule(
        remedy="raise an error that names the unknown key, or leave it out of what `send_action` returns",
        needs=["send-action-returns-what-was-sent"],
    )
    def test_unknown_joints_are_not_claimed(self) -> None:
        """An action with an unknown joint is refused by name, or the joint is missing in what was sent."""
        robot = self.connected()
        unknown = "no_such_joint.pos"
        try:
            sent = robot.send_action({**self.make_action(robot), unknown: 0.0})
        except Exception as error:  # noqa: BLE001 - any refusal will do if it names the joint
            if "no_such_joint" not in str(error):
                broken(f"it is refused without being named: {type(error).__name__}: {error}")
            return
        if unknown in sent:
            broken(f"`{unknown}` is returned as if it had been sent")

    @rule(
        remedy="check the action with `math.isfinite` and raise ValueError with the joint's name",
        needs=["send-action-returns-what-was-sent"],
    )
    def test_refuses_numbers_that_are_none(self) -> None:
        """An action with NaN, as a diverged policy gives, is refused: it must not become a position."""
        if not self.may_move_far():
            skip("`may_move_far` is False: a robot that takes NaN for a position would move there")
        robot = self.connected()
        action = self.make_action(robot)
        for name in action:
            try:
                sent = robot.send_action({**action, name: math.nan})
            except Exception:  # noqa: BLE001 - any refusal will do
                continue
            broken(f"`{name}` = nan was taken, and {sent.get(name)} sent")

    @rule(
        remedy="clip each goal to `max_relative_target` around the present position, with LeRobot's "
        "`ensure_safe_goal_position`, and return the clipped values",
        needs=["send-action-returns-what-was-sent"],
    )
    def test_limits_relative_targets(self) -> None:
        """With `max_relative_target`, no joint is sent farther than that from where it is."""
        if not hasattr(self.make_config(), "max_relative_target"):
            skip("its config has no `max_relative_target`")
        self.require_device()
        limit = FAR_UNITS / 3
        robot = self.build(replace(self.make_config(), max_relative_target=limit))
        self.at_end(lambda: self._put_away(robot))
        self.connect(robot)
        here = self._hold(robot)
        sent = robot.send_action({name: value + FAR_UNITS for name, value in here.items()})
        robot.send_action(dict(here))
        for name, value in here.items():
            moved = abs(float(sent[name]) - value)
            if moved > limit + self.position_tolerance:
                broken(f"`{name}` was {moved:.3g} from its goal's start, the limit is {limit:g}")

    @rule(
        remedy="take an action that is an observation's `.pos` values; leave out what is no motor",
        needs=["send-action-returns-what-was-sent"],
    )
    def test_goes_back_to_where_it_was(self) -> None:
        """The `.pos` values of an observation can be sent: so `lerobot-rollout` returns to its start."""
        robot = self.connected()
        observation = robot.get_observation()
        robot.send_action({key: value for key, value in observation.items() if key.endswith(".pos")})
