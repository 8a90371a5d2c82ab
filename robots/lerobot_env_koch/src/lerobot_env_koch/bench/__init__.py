# SPDX-License-Identifier: Apache-2.0
"""The virtual bench behind `lerobot-ext sim`: two Koch arms that answer like Dynamixel servos on pseudo-terminals."""
