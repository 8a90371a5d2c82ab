# SPDX-License-Identifier: Apache-2.0
"""The smallest processor steps that keep every rule of `ProcessorStepContract`."""

from dataclasses import dataclass, field

import torch
from lerobot.configs.types import PipelineFeatureType
from lerobot.processor import ProcessorStep, ProcessorStepRegistry, TransitionKey


@ProcessorStepRegistry.register("toy_step")
@dataclass
class ToyStep(ProcessorStep):
    """Scales the state, adds what it was before as a second key, and keeps a number it has learned."""

    gain: float = 1.0
    learned: torch.Tensor = field(default_factory=lambda: torch.zeros(2), init=False)
    last: torch.Tensor | None = field(default=None, init=False)

    def __call__(self, transition):
        observation = transition.get(TransitionKey.OBSERVATION)
        if observation is None or "observation.state" not in observation:
            return transition
        state = observation["observation.state"]
        observation = {
            **observation,
            "observation.state": self.scaled(state),
            "observation.last": state if self.last is None else self.last,
        }
        self.last = state.clone()
        return {**transition, TransitionKey.OBSERVATION: observation}

    def scaled(self, state):
        return state * self.gain

    def reset(self):
        self.last = None

    def get_config(self):
        return {"gain": self.gain}

    def state_dict(self):
        return {"learned": self.learned}

    def load_state_dict(self, state):
        self.learned = state["learned"]

    def transform_features(self, features):
        observation = features[PipelineFeatureType.OBSERVATION]
        more = {**observation, "observation.last": observation["observation.state"]}
        return {**features, PipelineFeatureType.OBSERVATION: more}


@ProcessorStepRegistry.register("toy_unstep")
@dataclass
class ToyUnstep(ProcessorStep):
    """Undoes a `ToyStep`."""

    gain: float = 1.0

    def __call__(self, transition):
        observation = dict(transition[TransitionKey.OBSERVATION])
        del observation["observation.last"]
        observation["observation.state"] = observation["observation.state"] / self.gain
        return {**transition, TransitionKey.OBSERVATION: observation}

    def transform_features(self, features):
        return features
