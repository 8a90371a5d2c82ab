# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext quickstart`: from nothing to a trained policy on a virtual Koch, by the stock CLIs alone."""
