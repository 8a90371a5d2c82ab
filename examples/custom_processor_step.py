# SPDX-License-Identifier: Apache-2.0
"""Write a processor step of your own, put it into a file, and let it act on a robot's commands.

What you will see: a step that keeps a joint out of a zone, registered with LeRobot; the file that names it,
as `--robot.pipeline=steps.json` and `LEROBOT_EXT_PIPELINES=steps.json` take it; what `lerobot-ext pipeline
show` says of it; and a command before and after.

    uv run python examples/custom_processor_step.py

The last line is `Processor example: 60.0 became 20.0.` A step for stock command lines has to be in a package:
`lerobot-ext new processor NAME` writes one around it.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot.processor import ProcessorStepRegistry, RobotActionProcessorStep

from lerobot_ext.cli.main import main as lerobot_ext
from lerobot_ext.pipelines.robot_side import RobotSide

JOINT = "shoulder_pan.pos"
ACTION = {f"{name}.pos": 0.0 for name in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex")}


@ProcessorStepRegistry.register("example_keep_out")
@dataclass
class KeepOut(RobotActionProcessorStep):
    """Hold a joint at the edge of a zone that it must not enter.

    Args:
        joint (`str`, *optional*): The joint, with its `.pos`.
        above (`float`, *optional*): Where the zone begins, in LeRobot's units.
    """

    joint: str = JOINT
    above: float = 20.0

    def action(self, action: dict[str, Any]) -> dict[str, Any]:
        """The command with the joint outside the zone."""
        return action | {self.joint: min(action[self.joint], self.above)}

    def get_config(self) -> dict[str, Any]:
        """What the file keeps."""
        return {"joint": self.joint, "above": self.above}

    def transform_features(self, features: Any) -> Any:
        """Names and shapes stay as they are."""
        return features


def main(argv: list[str] | None = None) -> None:
    """Write the file, look at it, and send a command through it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, help="folder for the file; a temporary one by default")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="processor-example-") as folder:
        file = (args.home or Path(folder)) / "steps.json"
        steps = [{"registry_name": "example_keep_out", "config": {"joint": JOINT, "above": 20.0}}]
        file.write_text(json.dumps({"robot_action": {"name": "keep out", "steps": steps}}), encoding="utf-8")

        print("$ lerobot-ext pipeline show steps.json --robot.type=koch_follower --robot.port=none")
        robot = ["--robot.type=koch_follower", "--robot.port=none"]
        if lerobot_ext(["pipeline", "show", str(file), *robot]) != 0:
            raise SystemExit("the file is refused")

        side = RobotSide.load(file)
        sent = side.robot_action((ACTION | {JOINT: 60.0}, {}))
        print(f"\nProcessor example: 60.0 became {sent[JOINT]:.1f}.")


if __name__ == "__main__":
    main()
