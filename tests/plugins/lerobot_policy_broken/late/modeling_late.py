# SPDX-License-Identifier: Apache-2.0
"""The policy of a config that no plugin discovery registers."""

from lerobot_policy_toy.modeling_toy import ToyPolicy

from .configuration_late import FreshProcessLoadsThePolicyConfig


class FreshProcessLoadsThePolicyPolicy(ToyPolicy):
    config_class = FreshProcessLoadsThePolicyConfig
    name = "fresh_process_loads_the_policy"
