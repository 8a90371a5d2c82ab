# SPDX-License-Identifier: Apache-2.0
"""A step that no plugin discovery registers."""

from dataclasses import dataclass

from lerobot.processor import ProcessorStepRegistry
from lerobot_policy_toy.steps_toy import ToyStep


@ProcessorStepRegistry.register("broken_fresh_process_loads_it")
@dataclass
class Late(ToyStep):
    pass
