# SPDX-License-Identifier: Apache-2.0
"""Recording at full rate: which encoder flags this machine holds, and a watch over the loop that records."""
