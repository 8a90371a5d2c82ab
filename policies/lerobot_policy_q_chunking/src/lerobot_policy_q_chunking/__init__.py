# SPDX-License-Identifier: Apache-2.0
"""Q-chunking for stock LeRobot: reinforcement learning on chunks of actions, over a flow policy or any other.

Importing this package registers the configuration as soon as LeRobot itself is imported; model code is
imported when LeRobot builds the policy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lerobot_ext.plugins import lazy_attributes, load_all, when_imported

if TYPE_CHECKING:
    from .configuration_q_chunking import QChunkingConfig
    from .modeling_q_chunking import QChunkingPolicy
    from .processor_q_chunking import make_q_chunking_pre_post_processors

__version__ = "0.1.0"

__all__ = ["QChunkingConfig", "QChunkingPolicy", "make_q_chunking_pre_post_processors"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "QChunkingConfig": "configuration_q_chunking",
        "QChunkingPolicy": "modeling_q_chunking",
        "make_q_chunking_pre_post_processors": "processor_q_chunking",
    },
)


when_imported("lerobot.configs", lambda: import_module(f"{__name__}.configuration_q_chunking"))
when_imported("lerobot.processor", lambda: import_module("lerobot_ext.processing.environment_state"))
load_all()
