# SPDX-License-Identifier: Apache-2.0
"""Parts of `benchmarks/koch_bus.py`: what is measured, on which bench, and how it is shown."""
