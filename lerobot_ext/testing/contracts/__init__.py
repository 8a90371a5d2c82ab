# SPDX-License-Identifier: Apache-2.0
"""The contracts themselves, one kind a file; import them from `lerobot_ext.testing`."""
