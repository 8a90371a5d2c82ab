# SPDX-License-Identifier: Apache-2.0
"""What the motion steps compute with: limits, filters, workspaces. No step is registered here."""
