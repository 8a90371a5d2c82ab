# SPDX-License-Identifier: Apache-2.0
"""Processor steps for the broken processors."""

from dataclasses import dataclass, replace  # noqa: F401

from lerobot.processor import ProcessorStep, ProcessorStepRegistry, TransitionKey


class ActionStep(ProcessorStep):
    def transform_features(self, features):
        return features

    def __call__(self, transition):
        action = transition.get(TransitionKey.ACTION)
        return transition if action is None else {**transition, TransitionKey.ACTION: self.changed(action)}


@ProcessorStepRegistry.register("broken_shift")
@dataclass
class Shift(ActionStep):
    by: float = 0.5

    def get_config(self):
        return {"by": self.by}

    def changed(self, action):
        return action + self.by


@ProcessorStepRegistry.register("broken_forgetful_shift")
@dataclass
class ForgetfulShift(ActionStep):
    """Does not save its one number."""

    by: float = 0.0

    def changed(self, action):
        return action + self.by
