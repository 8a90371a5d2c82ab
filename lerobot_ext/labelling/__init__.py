# SPDX-License-Identifier: Apache-2.0
"""Rewards, success and returns as columns of a dataset: `lerobot-ext label`."""
