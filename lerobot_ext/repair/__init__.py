# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext repair`: brings a dataset whose recording was cut off back to its last whole episode."""
