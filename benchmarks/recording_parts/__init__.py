# SPDX-License-Identifier: Apache-2.0
"""A robot and a hand for `benchmarks/recording.py`: cameras with pictures from memory, and joints that sway.

Stock `lerobot-record` finds them by `--bench.discover_packages_path=recording_parts`.
"""

from recording_parts.bench_hand import BenchHand, BenchHandConfig
from recording_parts.bench_robot import BenchRobot, BenchRobotConfig

__all__ = ["BenchHand", "BenchHandConfig", "BenchRobot", "BenchRobotConfig"]
