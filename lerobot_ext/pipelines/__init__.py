# SPDX-License-Identifier: Apache-2.0
"""Files of processor steps that reach the stock command lines.

file.py       reads a file: which pipelines, which steps; needs neither LeRobot nor torch
build.py      makes the steps, and says which package or field is wrong
running.py    a pipeline that names the step that failed and lets nothing wrong through
features.py   what a robot's features become under a pipeline
robot_side.py the three pipelines around one robot
device.py     `--robot.pipeline`, `--teleop.pipeline`: the pipelines inside a device
defaults.py   `LEROBOT_EXT_PIPELINES`: the pipelines around any robot of a stock command line
episodes.py   resets the steps where an episode starts
"""
