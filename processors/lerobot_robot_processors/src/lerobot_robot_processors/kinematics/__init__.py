# SPDX-License-Identifier: Apache-2.0
"""Joint angles to end-effector poses and back: the Koch in closed form, others from URDF or MJCF."""
