# SPDX-License-Identifier: Apache-2.0
"""A Koch v1.1 arm without hardware: physics, a gym environment for the stock CLIs, a virtual bench.

Importing this registers `--env.type=koch` and the gymnasium id as soon as LeRobot's and gymnasium's own
packages are imported; MuJoCo is loaded when an environment is made.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lerobot_ext.plugins import lazy_attributes, load_all, when_imported

if TYPE_CHECKING:
    from lerobot_env_koch.config import KochEnvConfig

__version__ = "0.1.0"
__all__ = ["KochEnvConfig"]

__getattr__ = lazy_attributes(__name__, {"KochEnvConfig": "config"})


when_imported("lerobot.envs", lambda: import_module(f"{__name__}.config"))
when_imported("gymnasium", lambda: import_module(f"{__name__}.gym_id"))
load_all()
