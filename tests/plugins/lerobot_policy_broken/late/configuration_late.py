# SPDX-License-Identifier: Apache-2.0
"""A config that no plugin discovery registers."""

from dataclasses import dataclass

from lerobot.configs import PreTrainedConfig
from lerobot_policy_toy.configuration_toy import ToyConfig


@PreTrainedConfig.register_subclass("fresh_process_loads_the_policy")
@dataclass
class FreshProcessLoadsThePolicyConfig(ToyConfig):
    pass
