# SPDX-License-Identifier: Apache-2.0
"""Parts of the benchmark `act_plus.py`."""
