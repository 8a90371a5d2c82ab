# SPDX-License-Identifier: Apache-2.0
"""What several plugins have to agree on about an arm: joints, ranges, dimensions. Plain numbers."""
