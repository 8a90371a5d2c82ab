# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext new`: writes a LeRobot plugin that builds, is discovered and passes the conformance kit."""
