# SPDX-License-Identifier: Apache-2.0
"""A few seconds' look at a Koch's bus: who answers, how well, and what to change. Reads only."""
