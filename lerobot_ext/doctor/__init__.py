# SPDX-License-Identifier: Apache-2.0
"""Finds out which LeRobot plugins are installed, which of them work, and what to do about the others."""
