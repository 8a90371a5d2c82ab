# SPDX-License-Identifier: Apache-2.0
"""Parts of `benchmarks/hub_push.py`: a policy to push, and pushes that are cut off."""
