# SPDX-License-Identifier: Apache-2.0
"""A Koch v1.1 arm without hardware: physics, a gym environment for the stock CLIs, a virtual bench."""

__version__ = "0.1.0"
