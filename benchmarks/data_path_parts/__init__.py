# SPDX-License-Identifier: Apache-2.0
"""Parts of `benchmarks/data_path.py`: what is measured, in which processes, and how it is shown."""
