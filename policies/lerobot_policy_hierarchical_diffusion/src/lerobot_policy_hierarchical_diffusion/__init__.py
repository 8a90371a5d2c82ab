# SPDX-License-Identifier: Apache-2.0
"""Hierarchical diffusion policy for stock LeRobot.

Safety, dynamics, manipulation and planning layers condition one denoiser. Importing this package registers
the configuration, and the processor step its checkpoints name, as soon as LeRobot itself is imported;
model code is imported when LeRobot builds the policy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lerobot_ext.plugins import load_all, when_imported

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

_HOMES = {
    "HierarchicalDiffusionConfig": "configuration_hierarchical_diffusion",
    "HierarchicalDiffusionPolicy": "modeling_hierarchical_diffusion",
    "make_hierarchical_diffusion_pre_post_processors": "processor_hierarchical_diffusion",
}


def __getattr__(name: str) -> Any:
    """Import a public class when it is first asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


when_imported("lerobot.configs", lambda: import_module(f"{__name__}.configuration_hierarchical_diffusion"))
when_imported("lerobot.processor", lambda: import_module("lerobot_ext.processing.environment_state"))
load_all()
