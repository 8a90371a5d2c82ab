# SPDX-License-Identifier: Apache-2.0
"""Scripted demonstrations as a LeRobotDataset: `lerobot-ext demos`."""
