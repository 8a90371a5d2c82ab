# SPDX-License-Identifier: Apache-2.0
"""The contracts: what every plugin of a kind must keep. Import them from `lerobot_ext.testing`."""
