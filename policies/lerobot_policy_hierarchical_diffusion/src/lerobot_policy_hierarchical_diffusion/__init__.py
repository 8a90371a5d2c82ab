# SPDX-License-Identifier: Apache-2.0
"""Hierarchical diffusion policy for stock LeRobot.

Safety, dynamics, manipulation and planning layers condition one denoiser. Importing this package registers
the configuration, and the processor step its checkpoints name, as soon as LeRobot itself is imported;
model code is imported when LeRobot builds the policy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lerobot_ext.plugins import lazy_attributes, load_all, when_imported

if TYPE_CHECKING:
    from .configuration_hierarchical_diffusion import HierarchicalDiffusionConfig
    from .modeling_hierarchical_diffusion import HierarchicalDiffusionPolicy
    from .processor_hierarchical_diffusion import make_hierarchical_diffusion_pre_post_processors

__version__ = "0.1.0"

__all__ = [
    "HierarchicalDiffusionConfig",
    "HierarchicalDiffusionPolicy",
    "make_hierarchical_diffusion_pre_post_processors",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "HierarchicalDiffusionConfig": "configuration_hierarchical_diffusion",
        "HierarchicalDiffusionPolicy": "modeling_hierarchical_diffusion",
        "make_hierarchical_diffusion_pre_post_processors": "processor_hierarchical_diffusion",
    },
)


when_imported("lerobot.configs", lambda: import_module(f"{__name__}.configuration_hierarchical_diffusion"))
when_imported("lerobot.processor", lambda: import_module("lerobot_ext.processing.environment_state"))
load_all()
