# SPDX-License-Identifier: Apache-2.0
"""Hierarchical diffusion policy for stock LeRobot.

Safety, dynamics, manipulation and planning layers condition one denoiser. Importing this package registers
the configuration and the processor step it uses, as soon as LeRobot has imported the registries they go
into; model code is imported when LeRobot builds the policy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lerobot_ext.plugins import load_all

from ._lazy import after_import

if TYPE_CHECKING:
    from .configuration_hierarchical_diffusion import HierarchicalDiffusionConfig

__version__ = "0.1.0"

__all__ = ["HierarchicalDiffusionConfig"]


def _register_config() -> None:
    import_module(f"{__name__}.configuration_hierarchical_diffusion")


def _register_steps() -> None:
    # LeRobot loads saved pipelines from JSON without importing this package's processor module.
    import_module("lerobot_ext.processing.environment_state")


def __getattr__(name: str) -> Any:
    """Import the configuration when it is asked for by name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.configuration_hierarchical_diffusion"), name)


after_import("lerobot.configs.policies", _register_config)
after_import("lerobot.processor", _register_steps)
load_all()
