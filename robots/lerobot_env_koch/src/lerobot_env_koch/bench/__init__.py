# SPDX-License-Identifier: Apache-2.0
"""The virtual bench behind `lerobot-ext sim`: two Koch arms as Dynamixel servos on pseudo-terminals."""
