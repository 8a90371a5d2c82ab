# SPDX-License-Identifier: Apache-2.0
"""Small processor steps that anybody could have written; files name them by class, as third parties may."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PipelineFeatureType, PolicyFeature
from lerobot.processor import ObservationProcessorStep, ProcessorStep, RobotActionProcessorStep
from lerobot.processor.pipeline import PolicyActionProcessorStep

ACTION, OBSERVATION = PipelineFeatureType.ACTION, PipelineFeatureType.OBSERVATION
JOINTS, HAND = ("arm.pos", "claw.pos"), ("hand.x.pos", "hand.y.pos")


class SameFeatures:
    def transform_features(self, features):
        return features


@dataclass
class Scale(SameFeatures, RobotActionProcessorStep):
    """Every number of an action, times something."""

    scale: float = 1.0

    def action(self, action):
        return {name: value * self.scale for name, value in action.items()}

    def get_config(self):
        return {"scale": self.scale}


@dataclass
class Count(SameFeatures, RobotActionProcessorStep):
    """Adds to every number how many actions came since the last reset."""

    seen: int = field(default=0, init=False)

    def action(self, action):
        self.seen += 1
        return {name: value + self.seen - 1 for name, value in action.items()}

    def reset(self):
        self.seen = 0


@dataclass
class Fail(SameFeatures, RobotActionProcessorStep):
    """Raises, or gives no number."""

    how: str = "raise"

    def action(self, action):
        if self.how == "raise":
            raise ZeroDivisionError("no way")
        if self.how == "nan":
            return dict.fromkeys(action, float("nan"))
        return {"other.pos": 0.0}

    def get_config(self):
        return {"how": self.how}


class Renamed(RobotActionProcessorStep):
    """Two numbers become the sum and the difference of two others, under other names."""

    source: tuple[str, str]
    target: tuple[str, str]

    def transform_features(self, features):
        action = {name: one for name, one in features[ACTION].items() if name not in self.source}
        # As steps for policies describe a number; a robot says `float`.
        action |= {name: PolicyFeature(FeatureType.ACTION, (1,)) for name in self.target}
        return {**features, ACTION: action}


@dataclass
class JointsToHand(Renamed):
    source, target = JOINTS, HAND

    def action(self, action):
        arm, claw = action.pop("arm.pos"), action.pop("claw.pos")
        return {**action, "hand.x.pos": arm + claw, "hand.y.pos": arm - claw}


@dataclass
class HandToJoints(Renamed):
    source, target = HAND, JOINTS

    def action(self, action):
        x, y = action.pop("hand.x.pos"), action.pop("hand.y.pos")
        return {**action, "arm.pos": (x + y) / 2, "claw.pos": (x - y) / 2}


@dataclass
class ObserveHand(ObservationProcessorStep):
    """Where the hand is, besides the joints; pictures are halved."""

    def observation(self, observation):
        observation["hand.x.pos"] = observation["arm.pos"] + observation["claw.pos"]
        return {name: self._halved(value) for name, value in observation.items()}

    @staticmethod
    def _halved(value):
        return value[::2, ::2] if isinstance(value, np.ndarray) and value.ndim == 3 else value

    def transform_features(self, features):
        observation = {
            name: (one[0] // 2, one[1] // 2, one[2]) if isinstance(one, tuple) else one
            for name, one in features[OBSERVATION].items()
        }
        return {**features, OBSERVATION: {**observation, "hand.x.pos": float}}


@dataclass
class ShrinkPictures(ObservationProcessorStep):
    """Every picture of a policy's batch, `(…, C, H, W)`, cut to its upper left corner."""

    size: int = 32

    def observation(self, observation):
        return {
            name: value[..., : self.size, : self.size] if self._is_picture(name, value) else value
            for name, value in observation.items()
        }

    @staticmethod
    def _is_picture(name, value):
        return name.startswith("observation.images.") and not name.endswith("_is_pad")

    def transform_features(self, features):
        observation = {
            name: PolicyFeature(
                one.type, (one.shape[0], min(self.size, one.shape[1]), min(self.size, one.shape[2]))
            )
            if one.type is FeatureType.VISUAL
            else one
            for name, one in features[OBSERVATION].items()
        }
        return {**features, OBSERVATION: observation}

    def get_config(self):
        return {"size": self.size}


@dataclass
class Offset(SameFeatures, ProcessorStep):
    """Adds a vector to the state; it is kept as a tensor, so that there is a state file."""

    width: int = 3
    value: torch.Tensor | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.value is None:
            self.value = torch.full((self.width,), 0.5)

    def __call__(self, transition):
        from lerobot.lerobot_types import TransitionKey

        new = transition.copy()
        observation = dict(new[TransitionKey.OBSERVATION])
        state = observation["observation.state"]
        observation["observation.state"] = state + self.value.to(state)
        new[TransitionKey.OBSERVATION] = observation
        return new

    def get_config(self):
        return {"width": self.width}

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]):
        self.value = state["value"]


@dataclass
class ClampActions(SameFeatures, PolicyActionProcessorStep):
    """What a policy commands, within bounds."""

    bound: float = 1.0

    def action(self, action):
        return action.clamp(-self.bound, self.bound)

    def get_config(self):
        return {"bound": self.bound}


@dataclass
class WiderActions(SameFeatures, PolicyActionProcessorStep):
    """Changes the shape of the action, which LeRobot cannot follow."""

    def action(self, action):
        return torch.cat([action, action], -1)

    def transform_features(self, features):
        action = {
            name: PolicyFeature(one.type, (2 * one.shape[0],)) for name, one in features[ACTION].items()
        }
        return {**features, ACTION: action}


@dataclass
class WiderState(ObservationProcessorStep):
    """The state and one more number."""

    def observation(self, observation):
        state = observation["observation.state"]
        observation["observation.state"] = torch.cat([state, state[..., :1]], -1)
        return observation

    def transform_features(self, features):
        state = features[OBSERVATION]["observation.state"]
        wider = PolicyFeature(state.type, (state.shape[0] + 1,))
        return {**features, OBSERVATION: {**features[OBSERVATION], "observation.state": wider}}


@dataclass
class RenamePictures(ObservationProcessorStep):
    """Gives every camera another name."""

    def observation(self, observation):
        return {self._renamed(name): value for name, value in observation.items()}

    @staticmethod
    def _renamed(name):
        return name.replace("images.", "images.my_")

    def transform_features(self, features):
        observation = {self._renamed(name): one for name, one in features[OBSERVATION].items()}
        return {**features, OBSERVATION: observation}


@dataclass
class Lie(SameFeatures, ObservationProcessorStep):
    """Halves pictures and does not say so."""

    def observation(self, observation):
        return {name: ObserveHand._halved(value) for name, value in observation.items()}


TURNS = ".turns.pos"


@dataclass
class ToTurns(RobotActionProcessorStep):
    """Every joint in turns, under a name of its own: the space of a dataset that is not the motors'."""

    def action(self, action):
        return {self._there(name): value / 360 for name, value in action.items()}

    @staticmethod
    def _there(name):
        return name.removesuffix(".pos") + TURNS

    def transform_features(self, features):
        return {**features, ACTION: dict.fromkeys(map(self._there, features[ACTION]), float)}


@dataclass
class FromTurns(RobotActionProcessorStep):
    """The way back from `ToTurns`."""

    def action(self, action):
        return {self._back(name): value * 360 for name, value in action.items()}

    @staticmethod
    def _back(name):
        return name.removesuffix(TURNS) + ".pos"

    def transform_features(self, features):
        return {**features, ACTION: dict.fromkeys(map(self._back, features[ACTION]), float)}


@dataclass
class HalvePictures(ObservationProcessorStep):
    """Every second row and column of a robot's pictures."""

    def observation(self, observation):
        return {name: ObserveHand._halved(value) for name, value in observation.items()}

    def transform_features(self, features):
        observation = {
            name: (one[0] // 2, one[1] // 2, one[2]) if isinstance(one, tuple) else one
            for name, one in features[OBSERVATION].items()
        }
        return {**features, OBSERVATION: observation}
