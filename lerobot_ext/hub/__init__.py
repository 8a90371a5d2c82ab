# SPDX-License-Identifier: Apache-2.0
"""Checkpoints on the Hub: what they need, a card that says so, a push that is whole, a pull."""
