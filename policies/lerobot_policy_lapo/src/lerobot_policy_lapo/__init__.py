# SPDX-License-Identifier: Apache-2.0
"""LAPO for stock LeRobot: offline reinforcement learning from logs of mixed quality, on cameras and joints.

Importing this package registers the configuration as soon as LeRobot itself is imported; model code is
imported when LeRobot builds the policy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lerobot_ext.plugins import lazy_attributes, load_all, when_imported

if TYPE_CHECKING:
    from .configuration_lapo import LAPOConfig
    from .modeling_lapo import LAPOPolicy
    from .processor_lapo import make_lapo_pre_post_processors

__version__ = "0.1.0"

__all__ = ["LAPOConfig", "LAPOPolicy", "make_lapo_pre_post_processors"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "LAPOConfig": "configuration_lapo",
        "LAPOPolicy": "modeling_lapo",
        "make_lapo_pre_post_processors": "processor_lapo",
    },
)


when_imported("lerobot.configs", lambda: import_module(f"{__name__}.configuration_lapo"))
when_imported("lerobot.processor", lambda: import_module("lerobot_ext.processing.environment_state"))
load_all()
