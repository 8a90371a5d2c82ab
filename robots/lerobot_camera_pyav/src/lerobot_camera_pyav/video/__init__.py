# SPDX-License-Identifier: Apache-2.0
"""Exact random access to the frames of a video file by PyAV and numpy; knows nothing of LeRobot or torch."""
