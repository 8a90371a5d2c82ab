# SPDX-License-Identifier: Apache-2.0
"""Hierarchical diffusion policy for stock LeRobot: safety, dynamics, manipulation and planning layers that condition one denoiser."""

__version__ = "0.1.0"
