# SPDX-License-Identifier: Apache-2.0
"""Files of processor steps that reach the stock command lines.

- `file.py` reads a file: which pipelines, which steps; needs neither LeRobot nor torch
- `build.py` makes the steps, and says which package or field is wrong
- `running.py` a pipeline that names the step that failed and lets nothing wrong through
- `features.py` what features become under steps
- `robot_side.py` the three pipelines around one robot
- `device.py` inside a device: `--robot.pipeline`, `--teleop.pipeline`
- `defaults.py` around any robot of a stock command line: `LEROBOT_EXT_PIPELINES`
- `episodes.py` resets the steps where an episode starts
- `insertion.py` where steps go in the pipelines of a policy, and what LeRobot can follow
- `training.py` when a policy is trained: `--policy.extra_steps`, `LEROBOT_EXT_POLICY_STEPS`
- `checkpoint.py` into a saved checkpoint: `lerobot-ext pipeline add`
"""
