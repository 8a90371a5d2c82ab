# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext guard`: what another version of LeRobot would break, found out before it is installed."""
