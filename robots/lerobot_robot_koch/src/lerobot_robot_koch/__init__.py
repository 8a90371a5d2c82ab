# SPDX-License-Identifier: Apache-2.0
"""Koch leader and follower for the stock LeRobot CLIs that keep working on a lossy Dynamixel bus."""

__version__ = "0.1.0"
