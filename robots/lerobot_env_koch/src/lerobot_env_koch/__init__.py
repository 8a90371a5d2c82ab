# SPDX-License-Identifier: Apache-2.0
"""A Koch v1.1 arm without hardware: physics, a gym environment for the stock CLIs, a virtual bench.

Importing this registers `--env.type=koch` and the gymnasium id; MuJoCo is loaded when an environment is made.
"""

import gymnasium as gym

from lerobot_env_koch.config import GYM_ID, KochEnvConfig
from lerobot_ext.plugins import load_all

__version__ = "0.1.0"
__all__ = ["KochEnvConfig"]

# A reload must not warn that it overrides itself.
if GYM_ID not in gym.registry:
    gym.register(GYM_ID, entry_point="lerobot_env_koch.environment:KochEnv")

load_all()
