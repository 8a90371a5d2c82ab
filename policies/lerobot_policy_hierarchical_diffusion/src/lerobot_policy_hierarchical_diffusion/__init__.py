# SPDX-License-Identifier: Apache-2.0
"""Hierarchical diffusion policy for stock LeRobot.

Safety, dynamics, manipulation and planning layers condition one denoiser. Importing this package registers
the configuration only; model code is imported when LeRobot builds the policy.
"""

from lerobot_ext.plugins import load_all

from .configuration_hierarchical_diffusion import HierarchicalDiffusionConfig

__version__ = "0.1.0"

__all__ = ["HierarchicalDiffusionConfig"]

load_all()
