# SPDX-License-Identifier: Apache-2.0
"""Exports a policy's actor as a checkpoint of a stock LeRobot class, which loads without our packages.

How a policy and a processor step take part: `lerobot_ext.exporting.protocol`.
"""
