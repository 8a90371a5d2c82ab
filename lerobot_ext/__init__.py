# SPDX-License-Identifier: Apache-2.0
"""Plugins for stock LeRobot: the shared core that every `lerobot_ext` plugin stands on.

Importing this package is cheap on purpose: no torch, no LeRobot. See `lerobot_ext.plugins` for how the
plugins of one environment find each other, and `lerobot-ext --help` for what the installed ones offer.
"""

__version__ = "0.1.0"
