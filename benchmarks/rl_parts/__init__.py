# SPDX-License-Identifier: Apache-2.0
"""The pieces of `offline_rl.py`, `online_rl.py` and `q_chunking.py`, some of them of `koch_policies.py`."""
