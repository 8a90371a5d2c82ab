# SPDX-License-Identifier: Apache-2.0
"""Files of the toy steps."""

import json
from pathlib import Path
from typing import Any


def step(name: str, **config: Any) -> dict[str, Any]:
    """An entry for `toy_steps.NAME`, or for a registered step."""
    known = {"class": f"toy_steps.{name}"} if name[0].isupper() else {"registry_name": name}
    return {**known, "config": config}


def write(path: Path, **pipelines: list[dict[str, Any]]) -> Path:
    """A file with these pipelines."""
    path.write_text(json.dumps({key: {"name": key, "steps": steps} for key, steps in pipelines.items()}))
    return path


def write_hand(path: Path) -> Path:
    """The toy robot in another space: its dataset holds the hand, its motors get joints."""
    return write(
        path,
        teleop_action=[step("JointsToHand")],
        robot_action=[step("HandToJoints")],
        robot_observation=[step("ObserveHand")],
    )
