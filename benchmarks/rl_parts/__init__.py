# SPDX-License-Identifier: Apache-2.0
"""The pieces of `benchmarks/offline_rl.py`, `online_rl.py` and `q_chunking.py`."""
