# SPDX-License-Identifier: Apache-2.0
"""Parts that the plugin's `__init__` forgets to import: they are registered only where something else did."""
