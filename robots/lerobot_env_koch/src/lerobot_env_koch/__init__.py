# SPDX-License-Identifier: Apache-2.0
"""A Koch v1.1 arm without hardware: MuJoCo physics, a gym environment for the stock CLIs, and a virtual Dynamixel bench."""

__version__ = "0.1.0"
