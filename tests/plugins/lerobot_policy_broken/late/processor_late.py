# SPDX-License-Identifier: Apache-2.0
"""Processors, and a step that no plugin discovery registers."""

from dataclasses import dataclass

from lerobot.processor import ProcessorStepRegistry
from lerobot_policy_toy.processor_toy import (
    make_toy_pre_post_processors as make_fresh_process_loads_the_policy_pre_post_processors,  # noqa: F401
)

from ..steps_broken import Shift


@ProcessorStepRegistry.register("broken_late_shift")
@dataclass
class LateShift(Shift):
    by: float = 0.0
