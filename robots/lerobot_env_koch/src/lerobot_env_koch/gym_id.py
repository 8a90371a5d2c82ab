# SPDX-License-Identifier: Apache-2.0
"""Registers the environment with gymnasium, so that `gym.make` finds it."""

from typing import Final

import gymnasium as gym

GYM_ID: Final = "lerobot_env_koch/Koch-v0"

if GYM_ID not in gym.registry:
    gym.register(GYM_ID, entry_point="lerobot_env_koch.environment:KochEnv")
