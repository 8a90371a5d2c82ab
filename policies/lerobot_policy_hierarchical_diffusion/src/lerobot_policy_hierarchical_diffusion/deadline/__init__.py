# SPDX-License-Identifier: Apache-2.0
"""Inference within a latency budget: what the parts cost on a machine, what they are worth, what to run."""
