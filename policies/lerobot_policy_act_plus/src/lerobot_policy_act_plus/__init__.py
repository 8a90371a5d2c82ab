# SPDX-License-Identifier: Apache-2.0
"""ACT with the parts people fork it for, as flags of one policy; with all flags off it is stock ACT.

Importing this package registers the configuration, and the processor step its checkpoints name, as soon as
LeRobot itself is imported; model code is imported when LeRobot builds the policy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lerobot_ext.plugins import lazy_attributes, load_all, when_imported

if TYPE_CHECKING:
    from .configuration_act_plus import ActPlusConfig
    from .modeling_act_plus import ActPlusPolicy
    from .processor_act_plus import make_act_plus_pre_post_processors

__version__ = "0.1.0"

__all__ = ["ActPlusConfig", "ActPlusPolicy", "make_act_plus_pre_post_processors"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "ActPlusConfig": "configuration_act_plus",
        "ActPlusPolicy": "modeling_act_plus",
        "make_act_plus_pre_post_processors": "processor_act_plus",
    },
)

# Not `lerobot.configs`: the configuration is a subclass of stock ACT's, which lies in `lerobot.policies`.
when_imported("lerobot.policies", lambda: import_module(f"{__name__}.configuration_act_plus"))
when_imported("lerobot.processor", lambda: import_module("lerobot_ext.processing.environment_state"))
load_all()
