# SPDX-License-Identifier: Apache-2.0
"""Toy steps with one defect each; each is registered under the name of the rule that it breaks."""

import os
from dataclasses import dataclass

import torch
from lerobot.processor import ProcessorStepRegistry, TransitionKey
from lerobot_policy_toy.steps_toy import ToyStep


def breaks(rule):
    def decorate(cls):
        return ProcessorStepRegistry.register(f"broken_{rule}")(dataclass(cls))

    return decorate


@dataclass
class Unregistered(ToyStep):
    """Inherits its parent's registered name."""


@breaks("config_is_json")
class ConfigOfTensors(ToyStep):
    def get_config(self):
        return {"gain": torch.tensor(self.gain)}


@breaks("state_is_tensors")
class StateOfNumbers(ToyStep):
    def state_dict(self):
        return {"learned": 3.0}


@breaks("state_survives_loading")
class ForgetsState(ToyStep):
    def __post_init__(self):
        self.learned = torch.frombuffer(bytearray(os.urandom(8)), dtype=torch.int32)

    def load_state_dict(self, state):
        pass


@breaks("recreated_step_does_the_same")
class ForgetsGain(ToyStep):
    def get_config(self):
        return {}


@breaks("runs")
class LosesParts(ToyStep):
    def __call__(self, transition):
        after = super().__call__(transition)
        return {TransitionKey.OBSERVATION: after[TransitionKey.OBSERVATION]}


@breaks("input_stays_as_it_is")
class ScalesInPlace(ToyStep):
    def scaled(self, state):
        return state.mul_(self.gain)


@breaks("step_is_repeatable")
class Noisy(ToyStep):
    def scaled(self, state):
        return super().scaled(state) + os.urandom(1)[0]


@breaks("reset_begins_anew")
class Remembers(ToyStep):
    def reset(self):
        pass


@breaks("features_match_the_data")
class PromisesNothing(ToyStep):
    def transform_features(self, features):
        return features


@breaks("missing_parts_pass_or_are_named")
class Stumbles(ToyStep):
    def __call__(self, transition):
        if transition[TransitionKey.OBSERVATION] is None:
            raise TypeError("'NoneType' object is not subscriptable")
        return super().__call__(transition)


@breaks("step_pickles")
class HoldsALambda(ToyStep):
    def __post_init__(self):
        self.rule = lambda x: x


@ProcessorStepRegistry.register("broken/pipeline_survives_saving")
@dataclass
class NoFileName(ToyStep):
    """Its state is saved in a file with its registered name."""


@breaks("inverse_undoes_it")
class HasNoExactInverse(ToyStep):
    def scaled(self, state):
        return state * self.gain + 1
