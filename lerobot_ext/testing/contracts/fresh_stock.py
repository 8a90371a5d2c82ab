# SPDX-License-Identifier: Apache-2.0
"""What every fresh process has imported: LeRobot as its command lines do, and no plugin."""

import contextlib
from importlib import import_module

# A missing extra only means that a job imports the rest itself.
for _name in ("lerobot.scripts.lerobot_train", "lerobot.scripts.lerobot_record", "lerobot.policies.factory"):
    with contextlib.suppress(ImportError):
        import_module(_name)
