# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext profile`: where the time and the memory of a training step go."""
